"""How well both sides predict each further outcome, on the test rows where it is closed; `jobs.outcomes` decides."""

from collections.abc import Mapping

import numpy as np

from jobs.evidence.figures import Finding, OutcomeFindings, Sides, stated
from jobs.evidence.scored import Scored
from models.evaluation.choices import SIDES, Side
from models.evaluation.estimate import Refusal
from models.evaluation.outcomes import compare_outcome, ratio
from models.rankers.protocol import Floats
from models.settings import OUTCOME_METRICS, GateSettings, OutcomeSettings


def sections(
    rows: Scored, declared: Mapping[str, OutcomeSettings], settings: GateSettings
) -> dict[str, OutcomeFindings]:
    """What the document says of each declared outcome.

    Refused where fewer than `settings.min_known_share` of the rows are closed, as conversions are.
    """
    return {name: _section(name, rows, of, settings) for name, of in declared.items()}


def _section(name: str, rows: Scored, outcome: OutcomeSettings, settings: GateSettings) -> OutcomeFindings:
    label, predicted = rows.outcomes[name], rows.predicted[name]
    known = ~np.isnan(label)
    came, users = label[known], rows.users[known]
    said: dict[Side, Floats | None] = {side: predicted[side][known] if side in predicted else None for side in SIDES}
    closed = len(came)
    if not closed or closed < (settings.min_known_share or 0.0) * len(rows):
        reason = Refusal(
            f"{name} needs at least {settings.min_known_share or 0:.0%} of {len(rows)} test rows closed, "
            f"{outcome.window or f'{outcome.window_days} days'} after they were shown; found {closed}",
            closed,
        )
        refused = Sides.of(dict.fromkeys(Sides.model_fields, reason))
        comparison = dict.fromkeys(OUTCOME_METRICS[outcome.kind], refused)
        ratios: dict[Side, Finding] = dict.fromkeys(SIDES, stated(reason))
    else:
        found = compare_outcome(outcome.kind, came, said, users, settings)
        comparison = {metric: Sides.of(sides) for metric, sides in found.items()}
        ratios = {
            side: stated(
                Refusal(f"the {side} does not predict it", closed) if of is None else ratio(came, of, users, settings)
            )
            for side, of in said.items()
        }
    means = {side: None if of is None or not closed else float(of.mean()) for side, of in said.items()}
    return OutcomeFindings(
        kind=outcome.kind,
        through=outcome.through,
        unit=outcome.unit,
        rows=len(rows),
        closed=closed,
        observed=float(came.mean()) if closed else None,
        predicted=means,
        ratio=ratios,
        comparison=comparison,
    )
