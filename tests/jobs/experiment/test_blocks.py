"""A switchback read from rows: the planted lift by pairs of blocks, requests of nobody, and what the endpoint said."""

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.experiment import blocks, users
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE
from jobs.serving import captured
from models.experiments.settings import ExperimentSettings

START, DAYS, REQUESTS, LIFT = date(2026, 3, 2), 5, 5000, 0.2
SETTINGS = ExperimentSettings.model_validate(
    {"name": "prices", "start": str(START), "days": DAYS, "arms": {"old": {}, "new": {}}, "surface": "home",
     "switchback": {"block_minutes": 60, "washout_minutes": 15}, "interesting_lift": 0.5, "margin": 0.9}
)  # fmt: skip
CUT = midnight(START + timedelta(days=DAYS))


def joined(surface: str = "home") -> pa.Table:
    """Two items a request, of nobody known half the time; either is clicked in 0.3 of cases, or `LIFT` more."""
    rng = np.random.default_rng(6)
    impressions, labels = [], []
    for n, seconds in enumerate(np.sort(rng.random(REQUESTS)) * DAYS * 86_400):
        at = midnight(START) + timedelta(seconds=float(seconds))
        treated = SETTINGS.design.block_arm(at) == "new"
        for place in (1, 2):
            clicked = bool(rng.random() < 0.3 + LIFT * treated)
            bought = clicked and bool(rng.random() < 0.3)
            row = {"impression_id": f"{n}-{place}", "request_id": f"r{n}", "user_id": f"u{n % 40}" if n % 2 else None,
                   "item_id": f"i{place}", "event_time": at}  # fmt: skip
            impressions.append({**row, "surface": surface, "device": None, "position": place, "policy": "p",
                                "ingested_at": at, "attributes": []})  # fmt: skip
            labels.append({**row, "known_at": at, "clicked": clicked, "click_known_at": at if clicked else None,
                           "click_matures_at": at, "converted": bought, "conversion_known_at": at if bought else None,
                           "conversion_credit": 1.0 * bought, "conversion_value": 5.0 * bought,
                           "matures_at": at})  # fmt: skip
    tables = [pa.Table.from_pylist(rows, LAKE[name].schema) for name, rows in
              (("impressions", impressions), ("labels", labels))]  # fmt: skip
    return users.joined(*tables, CUT + timedelta(days=1), 2)


def exposed(wrong: int) -> pa.Table:
    """What the endpoint said of 300 requests, so many of them of the other arm."""
    rows = []
    for n in range(300):
        at = midnight(START) + timedelta(minutes=20 * n)
        arm = SETTINGS.design.block_arm(at)
        other = {"old": "new", "new": "old"}[arm]
        rows.append({"experiment": "prices", "unit": "block", "at": at, "arm": other if n < wrong else arm})
    return pa.Table.from_pylist(rows, captured.EXPOSED)


def told(rows: pa.Table, wrong: int = 0) -> dict[str, dict[str, Any]]:
    plan = SETTINGS.design.switchback
    assert plan is not None
    today = START + timedelta(days=DAYS - 1)
    found = blocks.rows(SETTINGS, plan, rows, exposed(wrong), CUT, np.ones(len(rows)), today, today + timedelta(days=9))
    return {row["metric"]: row for row in found}


def test_a_lift_of_blocks_is_found_by_pairs() -> None:
    rows = joined()
    found = told(rows)
    clicks, rate = found["clicks_per_request"], found["click_rate"]
    assert clicks["low"] < 2 * LIFT < clicks["high"]
    assert rate["low"] < LIFT < rate["high"]
    assert clicks["always_low"] < clicks["low"] < clicks["high"] < clicks["always_high"]
    assert clicks["effective_n"] == found["sample_ratio"]["effective_n"] == DAYS * 12
    assert found["clicks_per_request.control"]["value"] == pytest.approx(0.6, abs=0.06)
    assert found["revenue_per_request"]["value"] == pytest.approx(2 * LIFT * 0.3 * 5, abs=0.35)
    assert found["revenue_per_request"]["closes_on"] == found["verdict"]["closes_on"] == "2026-03-15"
    assert found["verdict"]["verdict"].startswith("ship: ")
    assert found["sample_ratio"]["n"] == REQUESTS
    washed = int(found["sample_ratio"]["note"].split("; ")[1].split()[0])
    assert washed == pytest.approx(REQUESTS / 4, rel=0.1)
    # An endpoint whose blocks meet another arm than was drawn is no experiment; a clock a second off is no fault.
    assert told(rows, wrong=2)["verdict"]["verdict"].startswith("ship: ")
    misdrawn = told(rows, wrong=60)["verdict"]["verdict"]
    assert "60 of 300 answers were of another arm than their block's" in misdrawn
    elsewhere = rows.set_column(rows.column_names.index("surface"), "surface", pa.array(["search"] * len(rows)))
    assert told(elsewhere)["clicks_per_request"]["note"].endswith("needs 30 pairs of blocks or more; found 0")
