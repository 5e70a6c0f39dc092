"""`train`: rankers are fitted on the train split; the best on the validation split becomes the challenger.

Bundles are drafted, logged to MLflow and only then moved into place and published, so a run that dies leaves no half
candidate. A bundle that was deployed is never replaced by different bytes. What a run that was killed had finished, the
next one takes as it is (`jobs.train.finished`).
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs import bundle
from jobs.bundle import Bundle
from jobs.deployments import ledger
from jobs.errors import Misconfigured, Refused
from jobs.evidence.scored import Scored, scored, with_known_click
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE
from jobs.moment.columns import LABELS, attribute_keys, columns_read, numbers
from jobs.moment.identity import IDENTITY
from jobs.places import here
from jobs.train import (
    calibrate,
    chain,
    choice,
    core,
    fitting,
    on_sagemaker,
    probe,
    processes,
    reference,
    retrieval,
    surfaces,
    tracked,
)
from jobs.train.chain import Drift, Link
from jobs.train.fitting import Digests
from jobs.train.origins import Origin, champion, curve, origins
from jobs.train.progress import Fitted
from jobs.train.room import Files
from jobs.train.sample import Sample, sample
from models.evaluation.estimate import Estimate, Finding
from models.rankers import BASELINE, EVERY_KIND, exported
from models.rankers.calibrated import uncalibrated
from models.rankers.features import TABLE
from models.rankers.labels import click_label
from models.rankers.mmoe import MMoERanker
from models.rankers.protocol import Scorer
from models.rankers.served import Unlike

if TYPE_CHECKING:
    from models.rankers.group import Group

COLUMNS = ("split", "request_id", "event_time", "surface", "conversion_heard_at", *LABELS)
"""What is read of `examples` whatever is learned; all of `TABLE` is needed to tell validation rows apart."""


def run(run: Run) -> dict[str, Any]:
    """Publish the `candidates` and `delay_curves` of a day and mode; returns who was chosen, why, and the figures.

    `full_training` names the kinds whose warm starts keep losing, with the reason: the DAG then starts a full one.
    Of several processes (`jobs.train.processes`) all but the first publish nothing.
    """
    if run.config.training.instance_type is not None:
        return on_sagemaker.trained(run)
    with on_sagemaker.reporting(run) as report:
        report.update(_trained(run))
    return report


@dataclass(frozen=True)
class Learned:
    """What a training has learned, and from what."""

    kinds: Sequence[str]
    continued: Mapping[str, Origin]
    folds: core.Folds
    clicks: pa.Table
    sample: Sample
    digests: Digests
    fits: Mapping[str, Fitted]


def _trained(run: Run) -> dict[str, Any]:
    """The training itself, in this process."""
    with processes.joined(run) as group:
        if group is not None and group.rank:
            return {"process": group.rank, "learned": processes.followed(run, group)}
        learned = _learned(run, group)
    return _published(run, learned)


def _learned(run: Run, group: "Group | None") -> Learned:
    serving = champion(run)
    light = run.config.retrieval.light.ranker
    kinds = core.kinds(run.mode, serving.ranker.kind if serving else None, run.config.ranker.trained, light)
    kinds = core.carried(kinds, run.config.delays, run.say)
    continued = origins(run, kinds, serving)
    chain.need_a_full_training(continued, run.config.warm)
    of = sample(run, run.config.training.most_rows)
    folds, clicks = _folds(run, kinds, continued, of)
    digests = Digests.of(folds.train)
    fits = fitting.all_fitted(run, kinds, folds.train, digests, continued, group)
    return Learned(kinds, continued, folds, clicks, of, digests, fits)


def _published(run: Run, learned: Learned) -> dict[str, Any]:
    """The rankers calibrated, compared, chosen from and published; what to report of them."""
    kinds, continued, folds, fits = learned.kinds, learned.continued, learned.folds, learned.fits
    sides, made = _calibrated(run, learned)
    rankers: dict[str, Scorer] = {kind: made.rankers.get(kind, fits[kind].ranker) for kind in kinds}
    gate, rows, mine = run.config.gate, made.rows, made.rows.of(kinds)
    figures = choice.figures(mine, gate)
    chosen, why = choice.choose(mine, figures, gate, click_label(folds.train).rate())
    run.say(f"{chosen} is the challenger: {why}")
    each = surfaces.bespoke_against_consolidated(mine, kinds, gate)
    for said in surfaces.sentences(each):
        run.say(said)
    first = retrieval.first_stage(run, learned.clicks, {kind: origin.parent for kind, origin in continued.items()})
    probes = {kind: _probe(kind, folds, continued.get(kind)) for kind in kinds}
    links = {kind: Link(0, folds.taught_until) for kind in kinds}
    for kind, origin in continued.items():
        fitted, against = replace(fits[kind], ranker=rankers[kind]), chain.compare(rows, kind, sides[kind], gate)
        links[kind] = _link(run, folds.taught_until, fitted, origin, probes[kind], against)
    for said in (alarms := chain.alarms(links, run.config.warm)):
        run.say(said)
    values = {kind: _values(figures[kind]) for kind in figures}
    calibration = {kind: made.told.get(kind, {}) for kind in kinds}
    references = _references(folds, kinds, mine)
    try:
        drafts = _draft(run, learned, rankers, calibration, links, probes, references, first)
        _guard_deployed(run, drafts)
        logged = tracked.log(run, drafts, fits, links, values, chosen, first.metrics)
        found = [_row(run, drafts[kind], kind == chosen, values[kind], logged[kind]) for kind in sorted(drafts)]
        for draft in drafts.values():
            bundle.keep(draft, run.config.bundles)
    finally:
        shutil.rmtree(_drafts(run), ignore_errors=True)
    run.publish("delay_curves", run.partition, folds.conversions.published)
    run.publish("candidates", run.partition, pa.Table.from_pylist(found, LAKE["candidates"].schema), notes={"why": why})
    fitting.store(run).clear()
    return {
        "chosen": drafts[chosen].candidate_id,
        "why": why,
        "started_from": _started_from(drafts[chosen]),
        "conversions": folds.conversions.why,
        "delay_drift": folds.conversions.warning,
        "train_rows": len(folds.train.clicked),
        **learned.sample.told,
        "retrieval": first.report,
        "bespoke_minus_consolidated": each,
        "validation": {kind: values[kind] for kind in sorted(values)},
        "chain": {kind: links[kind].report for kind in sorted(links)},
        "full_training": chain.full_training_due(links, run.config.warm),
        "alarms": len(alarms),
        "alarmed": {str(run.day): alarms},
    }


def _calibrated(run: Run, learned: Learned) -> tuple[dict[str, dict[str, str]], calibrate.Calibration]:
    """The sides each warm start is compared with, and all rankers calibrated on the validation rows."""
    folds, fits = learned.folds, learned.fits
    rivals, sides = chain.rivals(learned.continued)
    rankers = {**{kind: fits[kind].ranker for kind in learned.kinds}, **rivals}
    rows = scored(folds.validate, rankers, IDENTITY.empty_table())
    taught = {kind: uncalibrated(of.ranker) for kind, of in fits.items() if of.learned}
    converted = numbers(with_known_click(folds.validate)["converted"])
    parents = {kind: origin.ranker for kind, origin in learned.continued.items()}
    made = calibrate.calibrate(taught, rows, converted, run.config.gate, parents, folds.newest)
    for kind, told in made.told.items():
        run.say(f"p(click) of {kind}: {calibrate.sentence(told)}")
        run.say(f"p(conversion | click) of {kind}: {calibrate.sentence(told, 'conversion_given_click')}")
    return sides, made


def _folds(run: Run, kinds: Sequence[str], continued: Mapping[str, Origin], of: Sample) -> tuple[core.Folds, pa.Table]:
    inputs = core.inputs_of(kinds)
    further = run.config.outcomes if inputs.outcomes else {}
    columns = list(dict.fromkeys((*COLUMNS, *columns_read(inputs | TABLE), *(("outcomes",) if further else ()))))
    clicks, shown, keys = list[pa.Table](), list[pa.Table](), set[str]()

    def examples() -> Iterator[pa.Table]:
        for batch in run.batches("examples", [run.day], where={"mode": run.mode}, columns=columns):
            clicks.append(retrieval.clicks_of(batch))
            shown.append(surfaces.shown(batch))
            keys.update(attribute_keys(batch["attributes"]))
            yield batch

    cut, before = midnight(run.day + timedelta(days=1)), curve(continued.values())
    windows, room = run.config.attribution, Files(here(run.config.bundles))
    drawn = partial(of.of, seed=run.config.ranker.seed)
    folds = core.folds(examples(), cut, windows, run.config.delays, before, inputs, further, room, drawn)
    run.say(f"{len(folds.train.clicked)} training rows, {len(folds.validate)} validation rows")
    if of.told:
        run.say(f"learned from requests drawn of {of.rows} training rows, a share of {of.share:.4f}")
    run.say(folds.conversions.why)
    if folds.conversions.warning:
        run.say(folds.conversions.warning)
    if folds.conversions.doubt:
        run.say(f"the level of conversions is not read off the last days' clicks: {folds.conversions.doubt}")
    core.need_words(run.config.policy, keys)
    surfaces.need_same_entities(pa.concat_tables(shown), _catalogue(run))
    pa.default_memory_pool().release_unused()  # what batches took; else it is kept for batches that do not come
    return folds, pa.concat_tables(clicks)


def _catalogue(run: Run) -> pa.ChunkedArray | None:
    """The ids of the newest one; None where there is none."""
    if not any(day <= run.day for day in run.published_days("items")):
        return None
    return run.newest("items", ["item_id"])["item_id"]


def _probe(kind: str, folds: core.Folds, origin: Origin | None) -> bytes:
    """The rows its chain is watched on: its parent's, or new ones where that has none that the ranker can read."""
    inputs = EVERY_KIND[kind].inputs
    before = None if origin is None else origin.parent.probe
    if before is not None and probe.holds(before, inputs):
        return before
    later = folds.train.held_out
    return probe.frozen((folds.train if later is None or not len(later.clicked) else later).features, inputs)


def _link(
    run: Run, taught_until: datetime, fitted: Fitted, origin: Origin, frozen: bytes, against: chain.Against
) -> Link:
    columns = probe.columns(frozen)
    drift = Drift.of(*(ranker.predict(columns).p_click for ranker in (origin.ranker, fitted.ranker)))
    found = chain.link(origin, fitted, taught_until, drift, against)
    run.say(
        f"{origin.kind} is warm start {found.depth} of its chain and moved by {drift.mean:.4f} in logits"
        + (f"; lost to what it continued, {found.lost_in_a_row} in a row" if found.lost_in_a_row else "")
    )
    return found


def _drafts(run: Run) -> Path:
    return here(run.config.bundles) / f".drafts-{run.run_id}"


def _draft(
    run: Run,
    learned: Learned,
    rankers: Mapping[str, Scorer],
    calibration: Mapping[str, calibrate.Told],
    links: Mapping[str, Link],
    probes: Mapping[str, bytes],
    references: Mapping[str, bytes],
    first: retrieval.Trained,
) -> dict[str, Bundle]:
    """One bundle per ranker, out of sight; the lineage is what the bytes depend on and nothing else.

    Raises `Refused` where a graph does not say what its ranker says: another one would serve than is judged.
    """
    folds, continued, stage = learned.folds, learned.continued, run.config.retrieval.light
    if stage.ranker is not None and stage.ranker not in rankers:
        raise Misconfigured(f"retrieval.light.ranker needs a ranker that this training fits; found {stage.ranker}")
    rankers = {kind: _served(ranker, probes[kind]) for kind, ranker in rankers.items()}
    light = None if stage.ranker is None else bundle.Light(rankers[stage.ranker], stage.keeps)
    held = {kind: list(dict.fromkeys([BASELINE, kind, *([stage.ranker] if stage.ranker else [])])) for kind in rankers}
    lineage = _lineage(run, learned, first)
    seen = {kind: core.learned_from(folds.train, core.inputs_of(held[kind])) for kind in rankers}
    return {
        kind: bundle.write(
            _drafts(run),
            f"{kind}-{run.mode}-{run.day}",
            ranker,
            rankers[BASELINE],
            first.stage,
            run.config.policy,
            {
                **lineage,
                "columns": seen[kind],
                **_declared(folds, kind),
                **_pruned(ranker),
                **_surfaces(folds, continued.get(kind)),
                "data_sha256": core.fingerprint(learned.digests.train, seen[kind]),
                "calibration": calibration[kind],
                "settings": run.config.ranker.of(*held[kind]),  # of all that a bundle carries
                "started_from": _named(continued.get(kind)),
                "learned_until": _learned_until(folds, [*map(continued.get, held[kind])], first.origin).isoformat(),
                "chain": links[kind].lineage,
                "moved_far": chain.moved_far(links[kind], run.config.warm),
            },
            folds.conversions.curve,
            light,
            probes[kind],
            references[kind],
        )
        for kind, ranker in rankers.items()
    }


def _lineage(run: Run, learned: Learned, first: retrieval.Trained) -> dict[str, Any]:
    """What the bytes of every bundle of a training depend on."""
    folds, light = learned.folds, run.config.retrieval.light
    return {
        "day": run.day.isoformat(),
        "mode": run.mode,
        "delays": run.config.delays.model_dump(mode="json"),
        "delay_drift": folds.conversions.drifted,
        "train_rows": len(folds.train.clicked),
        **learned.sample.told,
        "retrieval": first.lineage,
        "light": None if light.ranker is None else light.model_dump(mode="json"),
    }


def _references(folds: core.Folds, kinds: Sequence[str], rows: Scored) -> dict[str, bytes]:
    def columns(*of: str) -> list[str]:
        return core.learned_from(folds.train, core.inputs_of(of))

    learned = reference.learned(folds.train, columns(*kinds))
    return {kind: reference.reference(learned, columns(kind), rows, kind).to_json() for kind in kinds}


def _served(ranker: Scorer, frozen: bytes) -> Scorer:
    """As it will be judged and served: by its graph where it has one, compared on its probe rows."""
    try:
        return exported(ranker, probe.columns(frozen))
    except Unlike as error:
        raise Refused(f"a bundle must score as what was trained: {error}") from error


def _declared(folds: core.Folds, kind: str) -> dict[str, Any]:
    """The further outcomes as a ranker of a kind was told of them; nothing where there are none for it."""
    outcomes = folds.train.outcomes if core.inputs_of({kind}).outcomes else {}
    return {"outcomes": {name: of.declared.model_dump() for name, of in outcomes.items()}} if outcomes else {}


def _pruned(ranker: Scorer) -> dict[str, Any]:
    """Which experts its training dropped, and what that cost; nothing where it was not to drop any."""
    within = uncalibrated(ranker)
    cost = within.pruning if isinstance(within, MMoERanker) else None
    return {"pruning": asdict(cost)} if cost else {}


def _surfaces(folds: core.Folds, origin: Origin | None) -> dict[str, Any]:
    """Those that anybody of its chain learned from: a warm start's few days may miss one. Where the parent does not
    say, nor can this.
    """
    before = [] if origin is None else origin.parent.manifest["lineage"].get("surfaces")
    return {} if before is None else {"surfaces": sorted({*before, *folds.surfaces})}


def _named(origin: Origin | None) -> dict[str, str] | None:
    return None if origin is None else {"candidate_id": origin.parent.candidate_id, "sha256": origin.parent.sha256}


def _learned_until(folds: core.Folds, continued: Sequence[Origin | None], first: Bundle | None) -> datetime:
    """Of the rows of the whole chain of warm starts, of all that a bundle carries."""
    parents = [*(origin.parent for origin in continued if origin is not None), *([first] if first else [])]
    return max([folds.until, *(parent.learned_until for parent in parents)])


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


def _row(run: Run, draft: Bundle, chosen: bool, figures: Mapping[str, float | None], run_id: str) -> dict[str, Any]:
    """The row of a ranker in `candidates`, after MLflow has its run."""
    return {
        "candidate_id": draft.candidate_id,
        "ranker": draft.ranker.kind,
        "chosen": chosen,
        "bundle": str(bundle.kept(draft, run.config.bundles)),
        "bundle_sha256": draft.sha256,
        "run_id": run_id,
        "started_from": _started_from(draft),
        "validation_log_loss": figures["log_loss"],
        "validation_auc": figures["auc"],
    }
