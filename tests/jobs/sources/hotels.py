"""Hotel searches: a click-out says what was shown, epoch seconds, lists with bars."""

import csv
from datetime import UTC, date, datetime
from typing import Any

from jobs.config import Config
from jobs.lake.tables import Tables, raw_tables
from jobs.sources import History, within
from jobs.sources._files import folder_of


def source(config: Config) -> "Hotels":
    """The files in `source.data`."""
    return Hotels(config)


class Hotels(History):
    """All of it in memory."""

    def __init__(self, config: Config) -> None:
        folder = folder_of(config.source.data, "hotels", "train.csv, item_metadata.csv")
        self._shown: dict[date, list[tuple[datetime, dict[str, str]]]] = {}
        with (folder / "train.csv").open() as file:
            for row in csv.DictReader(file):
                if row["action_type"] == "clickout item":
                    at = datetime.fromtimestamp(int(row["timestamp"]), UTC)
                    self._shown.setdefault(at.date(), []).append((at, row))
        with (folder / "item_metadata.csv").open() as file:
            self._items = [_item(row) for row in csv.DictReader(file)]

    def span(self) -> tuple[date, date]:
        """The days with click-outs."""
        return min(self._shown), max(self._shown)

    def day(self, day: date) -> Tables:
        """Each list that was shown, with its prices; and the one click that it is known by."""
        within(day, self.span(), "hotels")
        impressions, clicks = [], []
        for at, row in self._shown.get(day, []):
            request = f"{row['session_id']}-{row['step']}"
            of_request = {"request_id": request, "surface": "search", "policy": "trivago", "device": row["device"]}
            of_request |= {"region": row["platform"], "query": row["city"]}
            listed = zip(row["impressions"].split("|"), row["prices"].split("|"), strict=True)
            for position, (item, price) in enumerate(listed, start=1):
                event = {"event_time": at, "user_id": row["user_id"], "item_id": item}
                shown: dict[str, Any] = {"impression_id": f"{request}-{position}", **event}
                impressions.append({**shown, **of_request, "position": position, "context_price": float(price)})
                if item == row["reference"]:
                    clicks.append({"click_id": f"c-{request}", **shown})
        return raw_tables(impressions=impressions, clicks=clicks, items=self._items)


def _item(row: dict[str, str]) -> dict[str, Any]:
    kind, stars, *extras = row["properties"].split("|")
    return {"item_id": row["item_id"], "category": kind, "feature_stars": float(stars[0]), "feature_extra": extras[0]}
