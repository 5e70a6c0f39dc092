"""A log in the shape of trivago's (RecSys Challenge 2019): sessions of actions, lists with bars, epoch seconds.

Made up from the public description alone (https://recsys.trivago.cloud/challenge/dataset): an action a row, of which
only a click-out says what was shown (`impressions`, up to 25 hotels) and for how much (`prices`); no propensities.

    python -m tests.jobs.sources.hotel_sessions FOLDER [--days 8] [--sessions 700]
"""

import argparse
import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

FIRST = datetime(2018, 11, 1, tzinfo=UTC)
HEADER = ["user_id", "session_id", "timestamp", "step", "action_type", "reference"]
HEADER += ["platform", "city", "device", "current_filters", "impressions", "prices"]
CITIES, HOTELS, SHOWN = 12, 240, 25
FILTERS = ["Breakfast Included", "Free WiFi", "Swimming Pool", "4 Star"]


def write(folder: Path, days: int, sessions: int, seed: int = 3) -> int:
    """`train.csv` and `item_metadata.csv`; returns the click-outs."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    city_of, charm = rng.integers(0, CITIES, HOTELS), rng.normal(0, 0.8, HOTELS)
    usual = np.round(np.exp(rng.normal(4.4, 0.4, HOTELS)))
    with (folder / "item_metadata.csv").open("w") as file:
        file.write("item_id,properties\n")
        for hotel in range(HOTELS):
            stars = f"{int(np.clip(3 + charm[hotel], 1, 5))} Star"
            file.write(f"{5000 + hotel},{'|'.join(['Hotel', stars, *rng.choice(FILTERS[:3], 2, replace=False)])}\n")
    clicks = 0
    with (folder / "train.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(HEADER)
        for day in range(days):
            for second in np.sort(rng.integers(0, 86_400 - 600, sessions)):
                at, user = FIRST + timedelta(days=day, seconds=int(second)), int(rng.integers(0, sessions))
                city, platform = rng.integers(0, CITIES), rng.choice(["DE", "BR", "US"])
                device = rng.choice(["mobile", "desktop"])
                mine = np.flatnonzero(city_of == city)
                shown = rng.permutation(mine)[:SHOWN]
                prices = np.round(usual[shown] * rng.uniform(0.8, 1.2, len(shown)))
                thrift = 0.6 + 0.8 * (user % 3)
                liking = charm[shown] - thrift * prices / 80 - 0.08 * np.arange(len(shown))
                liking += rng.gumbel(0, 1, len(shown))
                chosen = shown[np.argmax(liking)]
                who = [f"U{user:05d}", f"s{day}-{second}-{user}"]
                where = [platform, f"City {city}", device]
                said = [int(at.timestamp()), 1, "search for destination", f"City {city}"]
                out.writerow([*who, *said, *where, "", "", ""])
                filters = "|".join(rng.choice(FILTERS, rng.integers(0, 3), replace=False))
                said = [int(at.timestamp()) + 30, 2, "clickout item", 5000 + chosen]
                listed = "|".join(str(5000 + hotel) for hotel in shown)
                out.writerow([*who, *said, *where, filters, listed, "|".join(f"{p:.0f}" for p in prices)])
                clicks += 1
    return clicks


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--days", type=int, default=8)
    parser.add_argument("--sessions", type=int, default=700)
    options = parser.parse_args()
    print(write(options.folder, options.days, options.sessions), "click-outs")
