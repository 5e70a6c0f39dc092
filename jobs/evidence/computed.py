"""The evidence on two bundles: the document, computed from test rows and the logged decisions of their days.

`backtest` writes it down first; `reevaluate` computes it again once every label is known.
"""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import bundle
from jobs.bundle import Bundle
from jobs.errors import NotReady
from jobs.evidence import conversions, core, detail, pages
from jobs.evidence.document import SCHEMA_VERSION
from jobs.evidence.replayed import replayed
from jobs.evidence.scored import AT_ONCE, SIDES, Pair, Scored, scored, with_known_click
from jobs.flow import FEATURES
from jobs.lake.run import Run
from jobs.moment.columns import ranker_columns
from jobs.moment.identity import IDENTIFYING, IDENTITY, identities
from models.evaluation.comparison import compare
from models.evaluation.estimate import Finding, Refusal

DATA = ("examples", "requests", "items", *FEATURES)


def test_rows(run: Run) -> pa.Table:
    """The held-out examples of the run's day and mode; raises `NotReady` where there are none."""
    test = run.read("examples", [run.day], where={"mode": run.mode}, rows=pc.field("split") == "test")
    if not len(test):
        raise NotReady(f"{run.stage.name} needs test rows in examples {run.partition}; found none")
    return test.combine_chunks()


def document(run: Run, test: pa.Table, pair: Pair, at_once: int = AT_ONCE) -> dict[str, Any]:
    """The evidence of the run's day and mode on `test`; same inputs, same document: no clock, no run id.

    Columns of `at_once` rows or candidates are held together.
    """
    settings, seed = run.config.gate, run.config.ranker.seed
    rows = scored(test, pair, _identity(run), at_once)
    compared = core.comparison(rows, settings, seed)
    run.say(f"compared on {len(rows)} of {len(test)} test rows")
    replay = replayed(run, conversions.with_closed(test), pair, at_once)
    run.say(f"replayed {len(replay)} decisions")
    values = core.value(replay, settings)
    champion, challenger = pair
    logging = values.pop("logging")
    parity = _parity(run, test, rows)
    written: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "day": run.day.isoformat(),
        "mode": run.mode,
        "challenger": _side(challenger),
        "champion": _side(champion),
        "bundle_sha256": challenger.sha256,
        "policy": challenger.policy.model_dump(mode="json"),
        "same_candidate": challenger.candidate_id == champion.candidate_id,
        "test_rows": len(rows),
        "comparison": {m: {s: f.as_dict() for s, f in sides.items()} for m, sides in compared.items()},
        "value": {side: finding.as_dict() for side, finding in values.items()},
        "estimators": detail.second_opinions(replay, settings),
        "logging": {"value": logging.as_dict()},
        "replay": core.replay_kind(len(replay), replay.left_out),
        "conversions": conversions.section(replay, _closes_on(run, test), settings),
        "pages": pages.section(test, replay, dict(zip(SIDES, pair, strict=True)), settings),
        "calibration": detail.calibration(rows, settings),
        "slices": detail.sliced(rows, settings),
        **detail.spread(replay, seed, settings),
        "parity": None if parity is None else parity.as_dict(),
        "data": core.data_card(test, replay) | {"versions": {t: run.inputs.get(t) for t in DATA}},
        "diagnostics": {
            "weights": core.trust(replay),
            "skew": replay.differing.skew,
            "differing_columns": replay.differing.shares,
        },
        "gate": settings.model_dump(mode="json"),
        "limitations": list(core.LIMITATIONS),
    }
    truth = core.true_value(replay)
    return written if truth is None else written | {"truth": truth}


def _parity(run: Run, test: pa.Table, rows: Scored) -> Finding | None:
    """A warm start's log-loss minus that of the newest full training's challenger, on the same rows; else None."""
    if run.mode == "full":
        return None
    candidates = run.read("candidates", where={"mode": "full"}).to_pylist()
    chosen = [row for row in candidates if row["chosen"] and row["day"] <= run.day.isoformat()]
    if not chosen:
        return Refusal("a warm start is held against the newest full training; found none")
    newest = max(chosen, key=lambda row: str(row["day"]))
    full = bundle.load(Path(newest["bundle"]), newest["bundle_sha256"])
    expected = full.ranker.predict(ranker_columns(with_known_click(test))).p_click
    warm = rows.as_shown["challenger"]
    compared = compare(rows.clicked, expected, warm, rows.requests, rows.users, run.config.gate, metrics=["log_loss"])
    return compared["log_loss"]["difference"]


def _identity(run: Run) -> pa.Table:
    """Which items are one item, as the dataset of the run's day was told; of none where there was no catalogue."""
    if not any(day <= run.day for day in run.published_days("items")):
        return IDENTITY.empty_table()
    return identities(run.newest("items", IDENTIFYING), run.config.dataset.selection)


def _closes_on(run: Run, test: pa.Table) -> date:
    """The day at whose end the last conversion of the test rows is known, late ones included."""
    attribution = run.config.attribution
    days = attribution.click_window_days + attribution.window_days + attribution.late_days
    newest: date = pc.cast(pc.max(test["event_time"]), pa.date32()).as_py()
    return newest + timedelta(days=days)


def _side(side: Bundle) -> dict[str, Any]:
    return {
        "candidate_id": side.candidate_id,
        "ranker": side.ranker.kind,
        "bundle_sha256": side.sha256,
        "policy": side.policy.model_dump(mode="json"),
        "lineage": dict(side.manifest["lineage"]),
    }
