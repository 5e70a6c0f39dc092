"""The evidence on two bundles: the document, computed from test rows and the logged decisions of their days.

`backtest` writes it down first; `reevaluate` computes it again once every label is known.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import bundle
from jobs.bundle import Bundle
from jobs.evidence import conversions, core, delays, detail, outcomes, pages
from jobs.evidence.document import SCHEMA_VERSION, Challenger, Champion, Document, Lineage, Risk, Warned
from jobs.evidence.figures import Logged, Sides, Truth, stated
from jobs.evidence.held_out import judged_on
from jobs.evidence.replayed import Replayed, replayed
from jobs.evidence.scored import AT_ONCE, Pair, Scored, as_shown, compared, scored, with_known_click
from jobs.flow import FEATURES
from jobs.lake.run import Run, code_version
from jobs.moment.columns import strings
from jobs.moment.identity import IDENTIFYING, IDENTITY, identities
from jobs.outcomes import closes_on
from jobs.places import place
from jobs.sources.world.truth import true_probabilities
from models.evaluation.choices import SIDES
from models.evaluation.comparison import compare
from models.evaluation.estimate import Finding, Refusal
from models.rankers.protocol import Scorer

DATA = ("examples", "requests", "items", *FEATURES)


@dataclass(frozen=True)
class Origin:
    """What the stage that writes an evidence first knows of it; an evidence computed again has the same."""

    run_id: str
    """MLflow's, of the challenger."""
    trained: str
    """The day of the challenger's training."""
    deployed: bool
    """Whether the champion ever was."""
    warnings: list[Warned]
    dataset: dict[str, Any] | None
    risk: Risk

    @classmethod
    def of(cls, first: Document) -> Self:
        """That of an evidence."""
        challenger = first.challenger
        return cls(
            challenger.run_id, challenger.day, first.champion.deployed, first.warnings, first.dataset, first.risk
        )


def document(run: Run, test: pa.Table, pair: Pair, origin: Origin, at_once: int = AT_ONCE) -> Document:
    """The evidence of the run's day and mode on `test`; same inputs, same document: no clock, no run id but MLflow's.

    `test` as `jobs.evidence.held_out` has it. Columns of `at_once` rows or candidates are held together.
    """
    settings, seed = run.config.gate.at(origin.risk.risk), run.config.ranker.seed
    rankers: dict[str, Scorer] = {side: of.ranker for side, of in zip(SIDES, pair, strict=True)}
    declared = run.config.outcomes
    rows = scored(test, rankers, _identity(run), at_once, tuple(declared))
    comparison = {metric: Sides.of(sides) for metric, sides in compared(rows, *SIDES, settings).items()}
    run.say(f"compared on {len(rows)} of {len(test)} test rows")
    replay = replayed(run, test, pair, at_once)
    run.say(f"replayed {len(replay)} decisions")
    champion, challenger = pair
    value, (popularity, rise) = core.value(replay, settings), detail.spread(replay, seed, settings)
    estimates, delayed = core.estimated(value), delays.section(run, origin.trained)
    closing = closes_on(pc.max(test["event_time"]).as_py(), run.config.attribution, run.config.outcomes)
    parity, judged = _parity(run, test, rows, origin.trained, at_once), judged_on(test)
    return Document(
        schema_version=SCHEMA_VERSION,
        day=run.day.isoformat(),
        mode=run.mode,
        challenger=Challenger(**_told(challenger), run_id=origin.run_id, day=origin.trained),
        champion=Champion(**_told(champion), deployed=origin.deployed),
        same_candidate=challenger.candidate_id == champion.candidate_id,
        judged_on=judged,
        test_rows=len(rows),
        comparison=comparison,
        value=estimates[value.primary],
        primary=value.primary,
        estimators=estimates,
        marginal=core.marginal(value),
        logging=Logged(value=stated(value.logging), difference=stated(value.of("against_logging"))),
        power=core.power(value, len(np.unique(replay.days)), settings),
        value_slices=detail.value_sliced(replay, settings),
        replay=core.replay_kind(len(replay), replay.left_out, value),
        pages=pages.section(test, replay, dict(zip(SIDES, pair, strict=True)), settings),
        conversions=conversions.section(replay, closing, run.config.gate),
        conversions_so_far=conversions.so_far(replay, challenger.delays, delayed, run.config.gate),
        delays=delayed,
        outcomes=outcomes.sections(rows, declared, settings),
        truth=_truth(run, replay, test),
        calibration=detail.calibration(rows, settings),
        slices=detail.sliced(rows, settings),
        popularity=popularity,
        concentration_rise=rise,
        parity=None if parity is None else stated(parity),
        data=core.data_card(test, replay, {table: run.inputs.get(table) for table in DATA}),
        dataset=origin.dataset,
        warnings=origin.warnings,
        diagnostics=core.trust(replay, value),
        gate=run.config.gate,
        risk=origin.risk,
        lineage=Lineage(code_version=code_version(), config_hash=run.config.digest("backtest")),
        limitations=core.limitations(sum(len(of.days) for of in judged)),
    )


def _truth(run: Run, replay: Replayed, test: pa.Table) -> Truth | None:
    found = core.true_value(replay)
    return None if found is None else found.model_copy(update=_true_means(run, with_known_click(test)))


def _true_means(run: Run, rows: pa.Table) -> dict[str, float]:
    """The mean true probabilities of the rows as they were shown; nothing where the world does not know them all."""
    shown_on = pc.cast(rows["event_time"], pa.date32())
    found = []
    for day in pc.unique(shown_on).to_pylist():
        mine = rows.filter(pc.equal(shown_on, pa.scalar(day)))
        user, item, surface = (strings(mine[name]) for name in ("user_id", "item_id", "surface"))
        found.append(true_probabilities(run.config, day, user, item, surface, mine["position"].to_numpy()))
    known = [part for part in found if part is not None]
    if not known or len(known) < len(found):
        return {}
    click, conversion = (np.concatenate(parts).mean() for parts in zip(*known, strict=True))
    return {"p_click": float(click), "p_conversion": float(conversion)}


def _parity(run: Run, test: pa.Table, rows: Scored, trained: str, at_once: int) -> Finding | None:
    """A warm start's log-loss minus that of the newest full training's challenger, on the same rows; else None.

    The newest when the warm start was `trained`: one since then may have learned from these rows.
    """
    if run.mode == "full":
        return None
    candidates = run.read("candidates", where={"mode": "full"}).to_pylist()
    chosen = [row for row in candidates if row["chosen"] and row["day"] <= trained]
    if not chosen:
        return Refusal("a warm start is held against the newest full training; found none")
    newest = max(chosen, key=lambda row: str(row["day"]))
    full = bundle.load(place(newest["bundle"]), newest["bundle_sha256"])
    expected, warm = as_shown(with_known_click(test), full, at_once), rows.as_shown["challenger"]
    found = compare(rows.clicked, expected, warm, rows.requests, rows.users, run.config.gate, metrics=["log_loss"])
    return found["log_loss"]["difference"]


def _identity(run: Run) -> pa.Table:
    """Which items are one item, as the dataset of the run's day was told; of none where there was no catalogue."""
    if not any(day <= run.day for day in run.published_days("items")):
        return IDENTITY.empty_table()
    return identities(run.newest("items", IDENTIFYING), run.config.dataset.selection)


def _told(side: Bundle) -> dict[str, Any]:
    """What either side says of itself."""
    return {
        "candidate_id": side.candidate_id,
        "ranker": side.ranker.kind,
        "bundle_sha256": side.sha256,
        "policy": side.policy,
        "learned_until": side.learned_until.isoformat(),
        "lineage": dict(side.manifest["lineage"]),
    }
