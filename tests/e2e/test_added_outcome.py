"""A like and a watch time are added by settings and a source's file alone, and followed to evidence, gate and page."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.config import ROOT
from jobs.config import environment as environment_of
from tests.jobs.small_lake import empty_mlflow

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

TUBE = '''
"""The simulated world, where people also like what they see and watch what they clicked on."""

import zlib
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config
from jobs.lake.tables import Tables
from jobs.sources import Source, simulated


def source(config: Config) -> Source:
    """Of `world.*`."""
    return Tube(config.world)


class Tube(simulated.Simulated):
    """Every second item is liked by two in five of those it is shown to, and watched for minutes, not seconds."""

    def day(self, day: date) -> Tables:
        """With `feedback`, an hour after the impression or a minute after the click, where that is the same day."""
        tables = super().day(day)
        rows = []
        for shown in tables["impressions"].to_pylist():
            good = zlib.crc32(shown["item_id"].encode()) % 2
            if zlib.crc32(shown["impression_id"].encode()) % 100 < (40 if good else 3):
                rows.append(self._event("like", shown, timedelta(hours=1), None))
        for click in tables["clicks"].to_pylist():
            good = zlib.crc32(click["item_id"].encode()) % 2
            seconds = (120.0 if good else 10.0) * (0.5 + zlib.crc32(click["click_id"].encode()) % 100 / 100)
            rows.append(self._event("watch", click, timedelta(minutes=1), seconds))
        today = [row for row in rows if row["event_time"].date() == day]
        types = {"event_time": pa.timestamp("us", tz="UTC"), "value": pa.float64()}
        names = ("feedback_id", "outcome", "impression_id", "event_time", "user_id", "item_id", "value")
        schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
        return tables | {"feedback": pa.Table.from_pylist(today, schema).sort_by("event_time")}

    def _event(self, outcome, of, after, value):
        row = {name: of[name] for name in ("impression_id", "user_id", "item_id")}
        at = {"outcome": outcome, "event_time": of["event_time"] + after, "value": value}
        return row | at | {"feedback_id": f"{outcome}-{of.get('click_id') or of['impression_id']}"}
'''
DECLARED = {
    "like": {},
    "watch": {"kind": "value", "through": "clicked", "unit": "seconds"},
    "return": {"window_days": 5},
}
GATE = {"must_rise": ["like.auc"], "outcomes_must_not_fall": {"watch.auc_upper_half": 0.01, "return.auc": 0.01}}


def chain(home: str) -> dict[str, Any]:
    """Everything up to the evidence and the gate's answer, in the tree that has the source."""
    import importlib
    from datetime import date, timedelta

    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from jobs import bundle, config
    from jobs.evidence import core, pack, page
    from jobs.flow import STAGES
    from jobs.lake.run import Run
    from jobs.lake.store import Lake, Lineage, midnight
    from jobs.moment.columns import numbers, outcome_columns, ranker_columns
    from models.evaluation.gate import judge

    settings = config.load()
    first, day = date(2026, 1, 1), date(2026, 1, 9)

    def run(stage: str, **more: Any) -> None:
        importlib.import_module(STAGES[stage].module).run(Run(STAGES[stage], settings, day, **more))

    for stage in ("ingest", "validate", "attribute", "featurize"):
        run(stage, since=first)
    run("assemble", mode="full")
    run("train", mode="full")
    lake = Lake(settings.lake.root)
    candidates = lake.read("candidates").drop_columns(["day", "mode"])
    # The choice is by clicks; here the network is looked at, whatever they say.
    taken = pc.equal(candidates["ranker"], "mmoe")
    candidates = candidates.set_column(candidates.schema.get_field_index("chosen"), "chosen", taken)
    lake.publish("candidates", {"day": str(day), "mode": "full"}, candidates, Lineage("test", "r", "c", "s"))
    run("backtest", mode="full")
    [row] = lake.read("evidence").to_pylist()
    document = pack.parsed(row["document"], "test")
    verdict = judge(core.gate_evidence(document), document.gate)
    labels, rows = lake.read("labels"), lake.read("examples")
    told = outcome_columns(rows["outcomes"], settings.outcomes)
    closed_by = midnight(day + timedelta(days=1 - settings.outcomes["return"].window_days))
    old = pc.less(rows["event_time"], pa.scalar(closed_by)).to_numpy()
    liked = labels["outcomes"].combine_chunks().flatten()
    liked = liked.filter(liked.field("events").is_valid()).field("outcome")
    network = next(row for row in candidates.to_pylist() if row["ranker"] == "mmoe")
    ranker = bundle.load(Path(network["bundle"]), network["bundle_sha256"]).ranker
    test = rows.filter(pc.equal(rows["split"], "test"))
    predicted = ranker.predict(ranker_columns(test, inputs=ranker.inputs)).outcomes
    return {
        "events": pc.value_counts(lake.read("feedback")["outcome"]).to_pylist(),
        "labels": pc.value_counts(liked).to_pylist(),
        "known": {name: float(np.isfinite(told[name]).mean()) for name in settings.outcomes},
        "old_known": float(np.isfinite(told["return"][old]).mean()),
        "rate": float(np.nanmean(told["like"])),
        "unclicked_watch": float(told["watch"][(numbers(rows["clicked"]) == 0)].max()),
        "lineage": {
            row["ranker"]: "outcomes" in json.loads((Path(row["bundle"]) / "manifest.json").read_text())["lineage"]
            for row in candidates.to_pylist()
        },
        "predicted": {name: float(of.mean()) for name, of in predicted.items()},
        "document": {name: of.model_dump() for name, of in document.outcomes.items()},
        "rules": {rule.name: [rule.outcome, rule.reason] for rule in verdict.rules if "." in rule.name},
        "page": page.html(document),
        "figures": sorted(name for name in core.figures(document) if name.startswith("outcomes.")),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run in a tree with one more source file; nothing else of it was touched."""
    home = tmp_path_factory.mktemp("tube")
    tree = home / "tree"
    shutil.copy(empty_mlflow(tmp_path_factory.getbasetemp()), home / "mlflow.db")
    shutil.copytree(ROOT / "jobs", tree / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("models", "infra", "expectations", "feature_repo", "tests"):
        (tree / name).symlink_to(ROOT / name)
    (tree / "jobs" / "sources" / "tube.py").write_text(TUBE)
    given = {
        "source.name": "tube",
        "lake.root": str(home / "lake"),
        "lake.raw": str(home / "raw"),
        "bundles": str(home / "bundles"),
        "features.online": "false",
        "tracking.uri": f"sqlite:///{home / 'mlflow.db'}",
        "tracking.artifacts": str(home / "artifacts"),
        "world.requests_per_day": "250",
        "outcomes": json.dumps(DECLARED),
        "gate": json.dumps(GATE),
    }
    command = f"import json; from tests.e2e.test_added_outcome import chain; print(json.dumps(chain({str(home)!r})))"
    env = environment_of(given) | {"TIDEGATE_ENV": "test"}
    ran = subprocess.run([sys.executable, "-c", command], cwd=tree, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-4000:]
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


def test_every_event_is_in_the_labels(found: dict[str, Any]) -> None:
    """One event an impression at most, each of an impression of these days; an outcome without events has none."""
    events = {one["values"]: one["counts"] for one in found["events"]}
    assert set(events) == {"like", "watch"}
    assert {one["values"]: one["counts"] for one in found["labels"]} == events
    assert events["like"] > 500


def test_the_examples_say_what_is_closed_and_nothing_else(found: dict[str, Any]) -> None:
    """A window of a day is closed as clicks are; of five days, only of the rows that are so old."""
    assert (found["known"]["like"], found["known"]["watch"]) == (1.0, 1.0)
    assert 0 < found["known"]["return"] < 1
    assert found["old_known"] == 1.0
    assert 0.1 < found["rate"] < 0.35
    assert found["unclicked_watch"] == 0.0


def test_the_network_predicts_those_it_knows_enough_of(found: dict[str, Any]) -> None:
    """The outcome nobody ever had gets no task; who predicts none says so in its bundle by silence."""
    assert set(found["predicted"]) == {"like", "watch"}
    assert found["predicted"]["like"] == pytest.approx(found["rate"], rel=0.3)
    assert {kind for kind, told in found["lineage"].items() if told} == {"mmoe"}


def test_the_evidence_compares_both_sides_and_says_what_is_open(found: dict[str, Any]) -> None:
    """The champion is the fallback, which predicts no outcome but a click; items tell the like, so the network does."""
    like, watch, back = (found["document"][name] for name in ("like", "watch", "return"))
    assert like["closed"] == like["rows"] == watch["closed"] > 500
    assert like["comparison"]["auc"]["challenger"]["low"] > 0.6
    assert 0.7 < like["ratio"]["challenger"]["value"] < 1.4
    assert watch["comparison"]["auc_upper_half"]["challenger"]["low"] > 0.5
    assert "the champion does not predict it" in like["comparison"]["auc"]["difference"]["refused"]
    assert (back["closed"], back["observed"]) == (0, None)
    assert "5 days after they were shown; found 0" in back["comparison"]["auc"]["challenger"]["refused"]
    assert "outcomes.like.auc.challenger" in found["figures"]


def test_the_gate_asks_by_name_and_waits_where_nothing_can_be_told(found: dict[str, Any]) -> None:
    """What only the challenger predicts has nothing to be held against; what is open is not known."""
    assert found["rules"]["like.auc.rises"] == ["unknown", "the champion does not predict it"]
    assert found["rules"]["watch.auc_upper_half"][0] == "unknown"
    assert found["rules"]["return.auc"][0] == "unknown"


def test_the_page_shows_them(found: dict[str, Any]) -> None:
    """Their own section, with what was seen and what is said, in their unit."""
    shown = found["page"]
    assert "What else they predict" in shown
    assert "The champion does not predict it." in shown
    assert " seconds on average" in shown
