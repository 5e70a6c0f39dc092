"""`train`: rankers are fitted on the train split; the best on the validation split becomes the challenger.

Bundles are drafted, logged to MLflow and only then moved into place and published, so a run that dies leaves no half
candidate. A bundle that was deployed is never replaced by different bytes.
"""

import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs import bundle, tracking
from jobs.bundle import Bundle
from jobs.deployments import ledger
from jobs.errors import Misconfigured, Refused
from jobs.evidence import dataset
from jobs.evidence.scored import scored, with_known_click
from jobs.lake.run import Run, code_version
from jobs.lake.store import midnight
from jobs.lake.swap import swap
from jobs.lake.tables import LAKE
from jobs.moment.columns import LABELS, columns_read, numbers
from jobs.moment.identity import IDENTITY
from jobs.train import calibrate, choice, core
from jobs.train.progress import said
from models.delays.curve import DelayCurve
from models.evaluation.estimate import Estimate, Finding
from models.rankers import BASELINE, fit
from models.rankers.features import TABLE
from models.rankers.labels import click_label
from models.rankers.protocol import Diverged, Ranker, Scorer, TrainingData

COLUMNS = ("split", "request_id", "event_time", "surface", "conversion_heard_at", *LABELS)
"""What is read of `examples` whatever is learned; all of `TABLE` is needed to tell validation rows apart."""


def run(run: Run) -> dict[str, Any]:
    """Publish the `candidates` of a day and mode; returns who was chosen, why, and the validation figures."""
    champion = _champion(run)
    kinds = core.kinds(run.mode, champion.ranker.kind if champion else None, run.config.ranker.kinds)
    inputs = core.inputs_of(kinds)
    further = run.config.outcomes if inputs.outcomes else {}
    columns = list(dict.fromkeys((*COLUMNS, *columns_read(inputs | TABLE), *(("outcomes",) if further else ()))))
    examples = run.read("examples", [run.day], where={"mode": run.mode}, columns=columns)
    origins = _origins(run, kinds, champion)
    cut, before = midnight(run.day + timedelta(days=1)), _curve(origins.values())
    folds = core.folds(examples, cut, run.config.attribution, run.config.delays, before, inputs, further)
    del examples  # a million rows of it, not needed beside their arrays
    run.say(f"{len(folds.train.clicked)} training rows, {len(folds.validate)} validation rows")
    run.say(folds.conversions.why)
    if folds.conversions.warning:
        run.say(folds.conversions.warning)
    rankers: dict[str, Ranker] = {}
    for kind in kinds:
        started = time.monotonic()
        start_from = _of_kind(kind, origins[kind]) if kind in origins else None
        with said(run.say):
            rankers[kind] = _fitted(run, kind, folds.train, start_from)
        continued = f", continues {origins[kind].candidate_id}" if kind in origins else ""
        run.say(f"{kind} fitted in {time.monotonic() - started:.1f} s{continued}")
    rows = scored(folds.validate, rankers, IDENTITY.empty_table())
    converted = numbers(with_known_click(folds.validate)["converted"])
    found = calibrate.calibrate(rankers, rows, converted, run.config.gate)
    for kind, told in found.told.items():
        run.say(f"p(click) of {kind}: {calibrate.sentence(told)}")
    figures = choice.figures(found.rows, run.config.gate)
    chosen, why = choice.choose(found.rows, figures, run.config.gate, click_label(folds.train).rate())
    run.say(f"{chosen} is the challenger: {why}")
    try:
        drafts = _draft(run, folds, found, origins)
        _guard_deployed(run, drafts)
        published = [_row(run, drafts[kind], kind == chosen, _values(figures[kind])) for kind in sorted(drafts)]
        for draft in drafts.values():
            _place(draft, run.config.bundles)
    finally:
        shutil.rmtree(_drafts(run), ignore_errors=True)
    rows_of_it = pa.Table.from_pylist(published, LAKE["candidates"].schema)
    run.publish("candidates", run.partition, rows_of_it, notes={"why": why})
    return {
        "chosen": drafts[chosen].candidate_id,
        "why": why,
        "started_from": _started_from(drafts[chosen]),
        "conversions": folds.conversions.why,
        "delay_drift": folds.conversions.warning,
        "train_rows": len(folds.train.clicked),
        "validation": {kind: _values(figures[kind]) for kind in sorted(figures)},
    }


def _fitted(run: Run, kind: str, data: TrainingData, start_from: Scorer | None) -> Ranker:
    """Raises `Misconfigured` where the settings make learning diverge."""
    try:
        return fit(kind, data, run.config.ranker, start_from)
    except Diverged as error:
        raise Misconfigured(f"the settings ranker.{kind}.* must let it learn: {error}") from error


def _champion(run: Run) -> Bundle | None:
    """Whose kind a warm start fits, as it was judged: the champion, or what served before it where the champion came
    out of this very training, or has learnt later days than it may see.
    """
    if run.mode != "warm":
        return None
    own = tuple(run.partition.values())
    row = ledger.champion(
        run,
        run.config.endpoint.name,
        where=lambda row: row["day"] <= run.day.isoformat() and (row["day"], row["mode"]) != own,
    )
    return None if row is None else bundle.load(Path(row["bundle"]), row["bundle_sha256"])


def _origins(run: Run, kinds: Sequence[str], champion: Bundle | None) -> dict[str, Bundle]:
    """What a warm start continues, by kind: the newest bundle of that kind, deployed or not, which is still there.

    A network that learns its ids day by day must not lose the days since it was last deployed. Never one of this very
    training or of a later day; of one day that of the full training. Without any, the part of the champion's bundle
    that is of the kind.
    """
    if run.mode != "warm":
        return {}
    own, found = tuple(run.partition.values()), dict[str, Bundle]()
    earlier = [
        row
        for row in run.read("candidates").to_pylist()
        if row["day"] <= run.day.isoformat() and (row["day"], row["mode"]) != own and Path(row["bundle"]).is_dir()
    ]
    for kind in kinds:
        newest = max(
            (row for row in earlier if row["ranker"] == kind),
            key=lambda row: (row["day"], row["mode"] == "full"),
            default=None,
        )
        if newest is not None:
            found[kind] = bundle.load(Path(newest["bundle"]), newest["bundle_sha256"])
        elif champion is not None and kind in (champion.ranker.kind, champion.fallback.kind):
            found[kind] = champion
    return found


def _curve(origins: Iterable[Bundle]) -> DelayCurve | None:
    """The newest delay curve among what is continued; None where nobody has one."""
    known = [origin for origin in origins if origin.delays is not None]
    return max(known, key=lambda origin: origin.learned_until).delays if known else None


def _of_kind(kind: str, origin: Bundle) -> Scorer:
    return origin.ranker if origin.ranker.kind == kind else origin.fallback


def _drafts(run: Run) -> Path:
    return run.config.bundles / f".drafts-{run.run_id}"


def _draft(
    run: Run, folds: core.Folds, made: calibrate.Calibration, origins: Mapping[str, Bundle]
) -> dict[str, Bundle]:
    """One bundle per ranker, out of sight; the lineage is what the bytes depend on and nothing else."""
    settings, rankers = run.config.ranker, made.rankers
    index = core.item_index(folds.clicks, settings.seed)
    lineage = {
        "day": run.day.isoformat(),
        "mode": run.mode,
        "delays": run.config.delays.model_dump(mode="json"),
        "delay_drift": folds.conversions.drifted,
        "train_rows": len(folds.train.clicked),
    }
    digests = core.fingerprints(folds.train)
    seen = {kind: core.learned_from(folds.train, core.inputs_of({kind, BASELINE})) for kind in rankers}
    return {
        kind: bundle.write(
            _drafts(run),
            f"{kind}-{run.mode}-{run.day}",
            ranker,
            rankers[BASELINE],
            index,
            run.config.policy,
            {
                **lineage,
                "columns": seen[kind],
                **_declared(folds, kind),
                "data_sha256": core.fingerprint(digests, seen[kind]),
                "calibration": made.told[kind],
                "settings": settings.of(*{BASELINE: None, kind: None}),  # a bundle carries both, perhaps one
                "started_from": _named(origins.get(kind)),
                "learned_until": _learned_until(folds, [origins.get(kind), origins.get(BASELINE)]).isoformat(),
            },
            folds.conversions.curve,
        )
        for kind, ranker in rankers.items()
    }


def _declared(folds: core.Folds, kind: str) -> dict[str, Any]:
    """The further outcomes as a ranker of a kind was told of them; nothing where there are none for it."""
    outcomes = folds.train.outcomes if core.inputs_of({kind}).outcomes else {}
    return {"outcomes": {name: of.declared.model_dump() for name, of in outcomes.items()}} if outcomes else {}


def _named(origin: Bundle | None) -> dict[str, str] | None:
    return None if origin is None else {"candidate_id": origin.candidate_id, "sha256": origin.sha256}


def _learned_until(folds: core.Folds, origins: Sequence[Bundle | None]) -> datetime:
    """Of the rows of the whole chain of warm starts, the fallback's too."""
    return max([folds.until, *(origin.learned_until for origin in origins if origin is not None)])


def _started_from(draft: Bundle) -> str | None:
    origin = draft.manifest["lineage"]["started_from"]
    return str(origin["candidate_id"]) if origin else None


def _values(figures: Mapping[str, Finding]) -> dict[str, float | None]:
    return {name: figure.value if isinstance(figure, Estimate) else None for name, figure in figures.items()}


def _guard_deployed(run: Run, drafts: Mapping[str, Bundle]) -> None:
    """Raises `Refused` where a draft would replace a deployed bundle by different bytes."""
    for row in ledger.deployed(run):
        for draft in drafts.values():
            if row["candidate_id"] == draft.candidate_id and row["bundle_sha256"] != draft.sha256:
                raise Refused(
                    f"{draft.candidate_id} is deployed as {row['bundle_sha256'][:12]}… and must stay as it was judged; "
                    f"its data or settings changed since (now {draft.sha256[:12]}…): train a later day"
                )


def _place(draft: Bundle, folder: Path) -> None:
    """Move a draft to its name, unless the very same bundle lies there already (it may be serving)."""
    final = folder / draft.candidate_id
    if final.exists():
        try:
            bundle.load(final, draft.sha256)
            return
        except Refused:
            pass  # another one, which goes with the drafts
    swap(draft.path, final)


def _row(run: Run, draft: Bundle, chosen: bool, figures: Mapping[str, float | None]) -> dict[str, Any]:
    """The row of a ranker in `candidates`, after MLflow has its run, the figures of its dataset among it."""
    card = dataset.published(run.lineage("examples", run.partition))
    origin = _started_from(draft)
    run_id = tracking.log_ranker(
        run.config,
        draft.candidate_id,
        draft.path,
        params={**draft.manifest["lineage"]["settings"], "policy": run.config.policy.kind},
        metrics={
            "train.rows": float(draft.manifest["lineage"]["train_rows"]),
            **(dataset.figures(card) if card else {}),
            **calibrate.metrics(draft.manifest["lineage"]["calibration"]),
            **{f"validation.{name}": value for name, value in figures.items() if value is not None},
        },
        tags={
            "stage": run.stage.name,
            "day": run.day.isoformat(),
            "mode": run.mode,
            "ranker": draft.ranker.kind,
            "chosen": str(chosen).lower(),
            "bundle_sha256": draft.sha256,
            "started_from": origin or "",
            "code_version": code_version(),
            "config_hash": run.config.digest(run.stage.name),
            "inputs": json.dumps(run.inputs, sort_keys=True),
        },
    )
    return {
        "candidate_id": draft.candidate_id,
        "ranker": draft.ranker.kind,
        "chosen": chosen,
        "bundle": str(run.config.bundles / draft.candidate_id),
        "bundle_sha256": draft.sha256,
        "run_id": run_id,
        "started_from": origin,
        "validation_log_loss": figures["log_loss"],
        "validation_auc": figures["auc"],
    }
