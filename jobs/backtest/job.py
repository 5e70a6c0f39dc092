"""`backtest`: challenger and champion on the same held-out rows and the same logged decisions; what both can tell.

The document is the record; MLflow and the folder beside the bundle hold copies of it with a page for people.
"""

from dataclasses import replace
from datetime import date, timedelta
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs import tracking
from jobs.backtest import beside, looks, trial
from jobs.errors import NotReady
from jobs.evidence import computed, core, data_warnings, pack, wording
from jobs.evidence.dataset import published
from jobs.evidence.document import Document
from jobs.evidence.held_out import datasets, held_out
from jobs.flow import VALIDATED
from jobs.lake.run import Run
from jobs.lake.tables import LAKE


def run(run: Run) -> dict[str, Any]:
    """Publish the `evidence` of a day and mode on its challenger; returns the estimates behind the verdict.

    Where nobody is to be judged nothing is published, no look begins, and the report's challenger is None: neither was
    one trained nor does one stand, or the day adds no row to what the one that stands was judged on.
    """
    judged = trial.of_the_day(run)
    if judged is None:
        _need_no_candidate(run)
        run.say(f"no challenger stands or was trained on {run.day}, {run.mode}")
        return {"challenger": None}
    challenger, champion = judged.challenger, judged.champion
    run.say(f"challenger {challenger.candidate_id}, champion {champion.candidate_id}")
    test = _test_rows(run, judged.trained)
    if test is None:
        run.say(f"{run.day} adds no test row: {challenger.candidate_id} was judged on all there are")
        return {"challenger": None}
    days, own = data_warnings.span(_days(run, judged.trained, test)), _partition(run, judged.trained)
    origin = computed.Origin(
        run_id=judged.run_id,
        trained=judged.trained.isoformat(),
        deployed=judged.deployed,
        warnings=[
            *data_warnings.of_delays(challenger.manifest["lineage"]),
            *data_warnings.of_drift(challenger.manifest["lineage"]),
            *data_warnings.of_sample(challenger.manifest["lineage"]),
            *data_warnings.by_rule({table: run.lineages(table, days) for table in VALIDATED}),
        ],
        dataset=published(run.lineage("examples", own)),
        risk=looks.begun(run, challenger.sha256),
    )
    document = computed.document(run, test, (champion, challenger), origin)
    if looks.judged_otherwise(run, document.risk, pack.sha256(document)):
        run.say(f"look {document.risk.look} was judged on another evidence: this one is a look of its own")
        origin = replace(origin, risk=looks.begin(run))
        document = computed.document(run, test, (champion, challenger), origin)
    if told := wording.judged_on(document):
        run.say(told)
    beside.log(run, judged.trained, test, document)
    _deliver(run, document)
    truth = document.truth
    return {
        "challenger": challenger.candidate_id,
        "trained": judged.trained.isoformat(),
        "champion": champion.candidate_id,
        "decisions": document.data.decisions,
        "value": document.value.model_dump(),
        "logging": document.logging.value.model_dump(),
        "truth": None if truth is None else truth.model_dump(),
        "risk": document.risk.model_dump(exclude={"looks"}),
        **{f"{name}_difference": sides.difference.model_dump() for name, sides in document.comparison.items()},
    }


def _need_no_candidate(run: Run) -> None:
    """Raises `NotReady` where one is still to come: the day has no dataset yet, or has one to train it from."""
    modes = [found["mode"] for found in run.partitions("examples") if found["day"] == run.day.isoformat()]
    if not modes or run.mode in modes:
        before = "train" if modes else "assemble"
        raise NotReady(
            f"table candidates needs one of {run.day}, {run.mode}, or one that stands; found none: run {before} first"
        )


def _test_rows(run: Run, trained: date) -> pa.Table | None:
    """All rows a challenger is judged on; None where the run's day has none to add to those of the days before.

    Raises `NotReady` where the run's day has no dataset yet.
    """
    of = datasets(run, trained)
    if not of or of[-1][0] != run.day:
        raise NotReady(f"table examples needs a dataset of {run.day}, full or warm; found none: run assemble first")
    days = (trained + timedelta(days=n) for n in range((run.day - trained).days))
    if lacking := [str(day) for day in days if day not in dict(of)]:
        run.say(f"left out, without a dataset: {', '.join(lacking)}")
    test = held_out(run, of)
    return test if test["day"][-1].as_py() == run.day.isoformat() else None


def _partition(run: Run, trained: date) -> dict[str, str]:
    """That of the challenger's own dataset."""
    return {"day": trained.isoformat(), "mode": run.mode}


def _days(run: Run, trained: date, test: pa.Table) -> list[date]:
    """The days the examples come from, those it learned from and those it is judged on."""
    own = run.batches("examples", None, where=_partition(run, trained), columns=["event_time"])
    parts = (pc.unique(pc.cast(rows["event_time"], pa.date32())).to_pylist() for rows in chain(own, [test]))
    return sorted({day for part in parts for day in part})


def _deliver(run: Run, document: Document) -> None:
    """MLflow first, which may be down; then the record; the pack last, once there is such evidence."""
    made = pack.of(run, document)
    tracking.log_evidence(run.config, document.challenger.run_id, core.figures(document), made.logged)
    row = {
        "candidate_id": document.challenger.candidate_id,
        "champion_id": document.champion.candidate_id,
        "bundle_sha256": document.challenger.bundle_sha256,
        "document": pack.text(document),
        "document_sha256": pack.sha256(document),
    }
    run.publish("evidence", run.partition, pa.Table.from_pylist([row], LAKE["evidence"].schema))
    made.put()
