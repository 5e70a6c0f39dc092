"""The funnel as one HTML page in the evidence's looks: no script, no font, no network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from jobs.evidence import charts, page
from jobs.evidence.charts import Mark, Scale
from jobs.experiment import experiments
from jobs.experiment.funnel import LOOKS, Candidate
from models.evaluation.estimate import Estimate, Refusal
from models.experiments.trust import Trust

STYLE = Path(page.__file__).with_name("page.css")
TITLES = {
    "gate": "Gate",
    "estimate": "Counterfactual estimate",
    "shadow": "Shadow",
    "interleaving": "Interleaving",
    "canary": "Canary",
    "a_b": "A/B test",
    "online": "Online, against logging",
}
AGREED = {True: "agreed", False: "disagreed", None: ""}


def html(
    known: Sequence[Candidate], found: Trust | Refusal, tested: Trust | Refusal, declared: Sequence[Mapping[str, Any]]
) -> str:
    """Newest candidate first; then the experiments, as they were read last (`funnel.read_last`), newest first.

    `found`: offline against online over the logging policy; `tested`: against A/B tests over the same opponent.
    """
    style = STYLE.read_text(encoding="utf-8")
    body = (
        "<p class=eyebrow>Tidegate</p><h1>From evidence to users</h1>"
        f"<p class=lead>{escape(told(found, 'online results'))}</p>"
        f"<p class=lead>{escape(told(tested, 'A/B tests against the same opponent'))}</p>"
        f"{_candidates(known)}{experiments.section(declared)}"
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Funnel</title><style>{style}</style>{body}</html>\n"
    )


def _candidates(known: Sequence[Candidate]) -> str:
    figures = [of for one in known for of in (one.offline, one.online) if of is not None]
    scale = Scale.about_zero([end for of in figures for end in (of.low, of.high)]) if figures else None
    head = "".join(f"<th>{TITLES[look]}</th>" for look in LOOKS)
    rows = "".join(_row(one, scale) for one in reversed(known))
    return (
        "<section><h2>Candidates</h2>"
        "<p class=lead>What each look at a candidate would have decided alone. Lifts are clicks per request over the"
        " logging policy; above, what was estimated, below, what came of it.</p><table class='dots forest'>"
        f"<thead><tr><th>Candidate</th>{head}<th class=plot></th><th></th></tr></thead><tbody>{rows}</tbody></table>"
        "</section>"
    )


def told(found: Trust | Refusal, what: str) -> str:
    """Whether to trust the backtests, in a sentence; `what` they are held against."""
    if isinstance(found, Refusal):
        return f"Whether offline estimates foretell {what} cannot be told yet: {found.reason}."
    seen = f"{found.seen.value:.2f} ({found.seen.low:.2f} to {found.seen.high:.2f})"
    true = (
        f"with the errors of both taken out {found.true.value:.2f} ({found.true.low:.2f} to {found.true.high:.2f})"
        if isinstance(found.true, Estimate)
        else f"how much of that is hidden by errors cannot be told: {found.true.reason}"
    )
    return (
        f"Over {found.seen.n} candidates, offline estimates and {what} correlate at {seen}; {true}."
        f" {found.same_sign:.0%} of them have the same sign."
    )


def _row(one: Candidate, scale: Scale | None) -> str:
    cells = "".join(f"<td>{one.said[look]}<small>{escape(one.why[look])}</small></td>" for look in LOOKS)
    marks = [
        Mark(side, of.value, of.low, of.high)
        for side, of in (("challenger", one.offline), ("logging", one.online))
        if of is not None
    ]
    says = f"{one.candidate_id}: offline above online"
    chart = charts.interval_row(marks, scale, says) if marks and scale is not None else Markup("")
    name = f"<th scope=row>{escape(one.candidate_id)}<small>{one.day}</small></th>"
    return f"<tr>{name}{cells}<td class=plot>{chart}</td><td>{AGREED[one.agreed]}</td></tr>"
