"""Can the logs tell? How far the weights of a replay can be trusted, in lines and a picture."""

from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from jobs.evidence import charts, wording
from jobs.evidence.document import Document
from jobs.evidence.figures import Balanced, Weights
from models.evaluation.choices import SIDES


@dataclass(frozen=True)
class Line:
    """A figure of both sides, what the gate wants of it, and what it means."""

    name: str
    champion: str
    challenger: str
    needs: str
    meaning: str


def weight_lines(document: Document) -> list[Line]:
    """The figures of either side's weights; none without a replay."""
    sides, gate = document.diagnostics.weights, document.gate
    if not sides:
        return []

    def line(name: str, told: Callable[[Weights], str], needs: str, meaning: str) -> Line:
        champion, challenger = (told(sides[side]) for side in SIDES)
        return Line(name, champion, challenger, needs, meaning)

    def mean(of: Weights) -> str:
        return f"{of.mean_weight:.3f} ± {of.mean_weight_stderr:.3f}"

    def tail(of: Weights) -> str:
        return "none" if of.tail_shape is None else wording.number(round(of.tail_shape, 2))

    return [
        line("Decisions", lambda of: f"{of.n:,}", "", "requests whose candidates and probability were logged"),
        line(
            "Mean weight",
            mean,
            f"1 ± {gate.max_mean_weight_z:g} s.e.",
            "with its standard error (s.e.); 1 if the logged probabilities are right and cover what the side wants",
        ),
        line("Largest weight", lambda of: f"{of.largest_weight:.1f}", "", "the most one decision counts for"),
        line(
            "Its share",
            lambda of: wording.share(of.largest_weight_share),
            f"≤ {wording.share(gate.max_weight_share)}",
            "no single decision should carry the estimate",
        ),
        line(
            "Tail shape",
            tail,
            f"≤ {gate.max_tail_shape:g}",
            "Pareto shape of the largest weights; from 0.5 on no interval of this kind holds",
        ),
        line("Never taken", lambda of: wording.share(of.never_taken_share), "", "decisions this side would never make"),
        line("Rarest logged", lambda of: wording.share(of.smallest_logged), "", "smallest probability that was logged"),
    ]


def carried(document: Document) -> str:
    """What the difference rests on, in a sentence or two."""
    of = document.diagnostics.difference
    if of is None:
        return ""
    return (
        f"Champion and challenger differ in {wording.share(of.differing)} of {of.decisions:,} decisions. Their"
        f" difference rests on what they do not share: {wording.rounded(of.gained)} equally weighted clicks on what"
        f" the challenger is likelier to show, {wording.rounded(of.lost)} on what the champion is; each needs"
        f" {wording.setting(document.gate.min_clicks_each_side)}."
    )


def histogram(document: Document) -> Markup | None:
    """How many decisions have a weight of which size, both sides."""
    sides = document.diagnostics.weights
    if not sides:
        return None
    edges = sides["challenger"].histogram.edges
    shares: dict[str, list[float]] = {side: [n / sides[side].n for n in sides[side].histogram.counts] for side in SIDES}
    names = [_class(low) for low in edges]
    return charts.bars(shares, names, "weight from", "Share of decisions by size of their weight, both sides")


def _class(low: float) -> str:
    fractions = {0.125: "⅛", 0.25: "¼", 0.5: "½"}
    return fractions.get(low) or f"{low:g}"


@dataclass(frozen=True)
class Group:
    """A line of the balance: `apart` in standard errors."""

    name: str
    side: str
    expected: str
    found: str
    apart: str
    off: bool


def groups(document: Document) -> list[Group]:
    """Those whose weights are furthest from what they should be, as the document has them."""
    return [_group(group) for group in document.diagnostics.balance]


def _group(of: Balanced) -> Group:
    apart = (of.found - of.expected) / of.stderr
    return Group(
        name=of.group.replace("_", " "),
        side=of.side,
        expected=wording.number(of.expected),
        found=f"{wording.number(of.found)} ± {wording.number(of.stderr)}",
        apart=f"{'+' if apart > 0 else '−' if apart < 0 else ''}{abs(apart):.1f}",
        off=of.off,
    )
