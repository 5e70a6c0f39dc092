"""Small charts as inline SVG: pure functions from figures to markup that needs no script, no network and no font.

Colours are CSS classes of the page, one per side, so a chart follows light, dark and print. Rows of intervals use
percentages and no view box: they stretch with their column while dots stay round and lines thin.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

ROW_HEIGHT, SPARK_WIDTH = 28, 132
SIZE, LEFT, BOTTOM, TOP, RIGHT = 340, 46, 40, 12, 20
"""Of a square chart, in its own units."""


@dataclass(frozen=True)
class Mark:
    """An interval with its value, drawn in the colour of `side`; `truth` adds a diamond where it really is."""

    side: str
    value: float
    low: float
    high: float
    truth: float | None = None


@dataclass(frozen=True)
class Scale:
    """Figures from `low` to `high` onto the width of a row; `flipped` puts the lower figures on the right."""

    low: float
    high: float
    flipped: bool = False

    @classmethod
    def around(cls, figures: Iterable[float], *, room: float = 0.06, flipped: bool = False) -> "Scale":
        """Just wide enough for all figures, with some room on both sides."""
        known = list(figures)
        low, high = min(known, default=0.0), max(known, default=1.0)
        margin = room * (high - low) or max(abs(high), 1.0) * room
        return cls(low - margin, high + margin, flipped)

    @classmethod
    def about_zero(cls, figures: Iterable[float], *, flipped: bool = False) -> "Scale":
        """Symmetric about zero, so that the zero lines of rows with scales of their own lie on one another."""
        reach = 1.12 * max((abs(figure) for figure in figures), default=0.0) or 1.0
        return cls(-reach, reach, flipped)

    def at(self, figure: float) -> float:
        """The place in percent of the width, inside it in any case."""
        share = min(1.0, max(0.0, (figure - self.low) / (self.high - self.low)))
        return round(100 * (1 - share if self.flipped else share), 2)

    def ticks(self, about: int = 4) -> list[float]:
        """Round figures inside the scale, about so many."""
        return ticks(self.low, self.high, about)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within [low, high], about so many."""
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= 0.75 * rough)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def interval_row(
    marks: Sequence[Mark], scale: Scale, says: str, *, bound: float | None = None, bad_below: bool = True
) -> Markup:
    """A row of intervals above one another, the zero line, and the side of `bound` that is not allowed shaded."""
    height = ROW_HEIGHT * max(1, len(marks))
    parts = [_frame(height)]
    if bound is not None:
        x = scale.at(bound)
        left = bad_below != scale.flipped
        start, width = (0.0, x) if left else (x, 100 - x)
        parts.append(f'<rect class="forbidden" x="{start}%" y="0" width="{width:.2f}%" height="{height}"/>')
        parts.append(_upright("bound", x, height))
    if scale.low < 0 < scale.high:
        parts.append(_upright("zero", scale.at(0.0), height))
    for place, mark in enumerate(marks):
        parts.append(_mark(mark, scale, ROW_HEIGHT * place + ROW_HEIGHT / 2))
    return _drawing(f'class="row" height="{height}"', "".join(parts), says)


def axis_row(scale: Scale, labels: Mapping[float, str]) -> Markup:
    """The figures under rows that share a scale."""
    parts = []
    for at, text in ((scale.at(figure), text) for figure, text in labels.items()):
        parts.append(f'<line class="tick" x1="{at}%" x2="{at}%" y1="0" y2="5"/>')
        parts.append(f'<text x="{at}%" y="18" text-anchor="{_anchor(at)}">{escape(text)}</text>')
    return Markup(f'<svg class="row axis" height="22" aria-hidden="true">{"".join(parts)}</svg>')


def _anchor(at: float) -> str:
    return "start" if at < 4 else "end" if at > 96 else "middle"


def _frame(height: int) -> str:
    return f'<rect class="track" x="0" y="0" width="100%" height="{height}"/>'


def _upright(kind: str, x: float, height: float) -> str:
    return f'<line class="{kind}" x1="{x}%" x2="{x}%" y1="0" y2="{height}"/>'


def _mark(mark: Mark, scale: Scale, y: float) -> str:
    low, value, high = (scale.at(figure) for figure in (mark.low, mark.value, mark.high))
    drawn = (
        f'<g class="{mark.side}"><line class="whisker" x1="{low}%" x2="{high}%" y1="{y}" y2="{y}"/>'
        f'<circle class="dot" cx="{value}%" cy="{y}" r="5"/></g>'
    )
    if mark.truth is None:
        return drawn
    return drawn + f'<svg x="{scale.at(mark.truth)}%" y="{y}" overflow="visible">{_diamond()}</svg>'


def _diamond() -> str:
    return '<path class="truth" d="M-6 0 0-6 6 0 0 6z"/>'


@dataclass(frozen=True)
class Square:
    """The plane of a square chart: figures from 0 to `top` on both axes, or to `top` and `right` on each."""

    right: float
    top: float

    def x(self, figure: float) -> float:
        """Across."""
        return round(LEFT + (SIZE - LEFT - RIGHT) * figure / self.right, 1)

    def y(self, figure: float) -> float:
        """Up."""
        return round(SIZE - BOTTOM - (SIZE - BOTTOM - TOP) * figure / self.top, 1)

    def axes(self, across: str, up: str, figure_across: Callable[[float], str] | None = None) -> str:
        """Both axes in percent unless `figure_across` writes the horizontal one, with a faint grid."""
        written = figure_across or percent
        lines = []
        for figure in ticks(0.0, self.right, 5):
            x = self.x(figure)
            lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{self.y(0)}" y2="{self.y(self.top)}"/>')
            lines.append(f'<text x="{x}" y="{SIZE - BOTTOM + 16}" text-anchor="middle">{written(figure)}</text>')
        for figure in ticks(0.0, self.top, 5):
            y = self.y(figure)
            lines.append(f'<line class="grid" x1="{self.x(0)}" x2="{self.x(self.right)}" y1="{y}" y2="{y}"/>')
            lines.append(f'<text x="{LEFT - 7}" y="{y + 4}" text-anchor="end">{percent(figure)}</text>')
        lines.append(self.name_across(across))
        middle = (self.y(0) + self.y(self.top)) / 2
        turned = f'transform="translate(11 {middle}) rotate(-90)"'
        lines.append(f'<text class="name" {turned} text-anchor="middle">{escape(up)}</text>')
        return "".join(lines)

    def name_across(self, name: str) -> str:
        """What the horizontal axis is."""
        x = self.x(self.right / 2)
        return f'<text class="name" x="{x}" y="{SIZE - 4}" text-anchor="middle">{escape(name)}</text>'


def percent(share: float) -> str:
    """A share as a tick says it."""
    return f"{100 * share:.3g}%"


def reliability(bins: Sequence[tuple[float, float, float, float, int]], side: str, top: float, says: str) -> Markup:
    """What was predicted against what happened, `bins` of (predicted, observed, low, high, n); the diagonal is right.

    A dot's area tells how many rows it stands for. `top`: the end of both axes, above 0.
    """
    plane = Square(top, top)
    most = max((n for *_, n in bins), default=1)
    parts = [plane.axes("predicted", "clicked")]
    parts.append(
        f'<line class="diagonal" x1="{plane.x(0)}" y1="{plane.y(0)}" x2="{plane.x(top)}" y2="{plane.y(top)}"/>'
    )
    points = " ".join(f"{plane.x(p)},{plane.y(o)}" for p, o, *_ in bins)
    parts.append(f'<g class="{side}"><polyline class="curve thin" points="{points}"/>')
    for predicted, observed, low, high, n in bins:
        x = plane.x(predicted)
        radius = round(2.5 + 3.5 * math.sqrt(n / most), 1)
        parts.append(f'<line class="whisker" x1="{x}" x2="{x}" y1="{plane.y(low)}" y2="{plane.y(min(high, top))}"/>')
        parts.append(f'<circle class="dot" cx="{x}" cy="{plane.y(observed)}" r="{radius}"/>')
    return _square("".join(parts) + "</g>", says)


def curves(sides: Mapping[str, tuple[Sequence[float], Sequence[float]]], across: str, up: str, says: str) -> Markup:
    """One line per side through (x, y) shares in [0, 1], from the origin; the diagonal is an even spread."""
    plane = Square(1.0, 1.0)
    parts = [plane.axes(across, up)]
    parts.append(f'<line class="diagonal" x1="{plane.x(0)}" y1="{plane.y(0)}" x2="{plane.x(1)}" y2="{plane.y(1)}"/>')
    for side, (xs, ys) in sides.items():
        places = [(plane.x(x), plane.y(y)) for x, y in zip((0.0, *xs), (0.0, *ys), strict=True)]
        points = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<g class="{side}"><polyline class="curve" points="{points}"/>')
        parts += [f'<circle class="dot" cx="{x}" cy="{y}" r="3.5"/>' for x, y in places[1:]] + ["</g>"]
    return _square("".join(parts), says)


def rising(
    at: Sequence[float],
    share: Sequence[float],
    band: Sequence[tuple[float, float]],
    before: Sequence[float] | None,
    says: str,
) -> Markup:
    """A share in [0, 1] that rises over days `at`, from the origin, within its band; `before` is dashed beneath it."""
    plane = Square(at[-1], 1.0)

    def points(ys: Sequence[float]) -> list[str]:
        return [f"{plane.x(x)},{plane.y(y)}" for x, y in zip((0.0, *at), (0.0, *ys), strict=True)]

    around = " ".join([*points([high for _, high in band]), *reversed(points([low for low, _ in band]))])
    parts = [plane.axes("days since the impression", "heard of", "{:g}".format)]
    parts.append(f'<g class="challenger"><polygon class="band" points="{around}"/></g>')
    if before is not None:
        parts.append(f'<g class="logging"><polyline class="curve before" points="{" ".join(points(before))}"/></g>')
    parts.append(f'<g class="challenger"><polyline class="curve" points="{" ".join(points(share))}"/></g>')
    return _square("".join(parts), says)


def bars(sides: Mapping[str, Sequence[float]], names: Sequence[str], across: str, says: str) -> Markup:
    """Shares in [0, 1] as bars, the sides next to one another in each of the named classes."""
    top = max((share for shares in sides.values() for share in shares), default=0.0) or 1.0
    plane = Square(float(len(names)), 1.08 * top)
    parts = []
    for figure in ticks(0.0, plane.top, 4):
        y = plane.y(figure)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{SIZE - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4}" text-anchor="end">{percent(figure)}</text>')
    width = 0.8 / len(sides) if sides else 0.8
    for number, (side, shares) in enumerate(sides.items()):
        for place, share in enumerate(shares):
            x, y = plane.x(place + 0.1 + number * width), plane.y(share)
            across_bar = round(plane.x(width) - plane.x(0), 1)
            height = round(plane.y(0) - y, 1)
            parts.append(f'<rect class="bar {side}" x="{x}" y="{y}" width="{across_bar}" height="{height}"/>')
    for place, name in enumerate(names):
        x = plane.x(place + 0.5)
        parts.append(f'<text x="{x}" y="{SIZE - BOTTOM + 16}" text-anchor="middle">{escape(name)}</text>')
    parts.append(plane.name_across(across))
    return _square("".join(parts), says)


def trend(days: Sequence[Mark | None], alarmed: Sequence[bool], says: str) -> Markup:
    """A figure over days, oldest first, within its band: a dot at the end, and where one alarmed; a day may lack it.

    Small enough to stand in a row of a table; what it is worth is said beside it.
    """
    known = [(place, mark) for place, mark in enumerate(days) if mark is not None]
    low = min((mark.low for _, mark in known), default=0.0)
    high = max((mark.high for _, mark in known), default=0.0)
    reach, step = (high - low) or abs(high) or 1.0, (SPARK_WIDTH - 8) / max(1, len(days) - 1)

    def at(place: int, figure: float) -> str:
        return f"{4 + place * step:.1f},{4 + (ROW_HEIGHT - 8) * (1 - (figure - low) / reach):.1f}"

    around = " ".join([at(p, m.high) for p, m in known] + [at(p, m.low) for p, m in reversed(known)])
    parts = [f'<polygon class="band" points="{around}"/>']
    parts.append(f'<polyline class="curve thin" points="{" ".join(at(p, m.value) for p, m in known)}"/>')
    for place, mark in known:
        if alarmed[place] or place == len(days) - 1:
            x, y = at(place, mark.value).split(",")
            parts.append(f'<circle class="dot{" alarmed" if alarmed[place] else ""}" cx="{x}" cy="{y}" r="3"/>')
    box = f'class="spark" viewBox="0 0 {SPARK_WIDTH} {ROW_HEIGHT}" width="{SPARK_WIDTH}" height="{ROW_HEIGHT}"'
    side = known[-1][1].side if known else ""
    return _drawing(box, f'<g class="{side}">{"".join(parts)}</g>', says)


def _square(content: str, says: str) -> Markup:
    return _drawing(f'class="square" viewBox="0 0 {SIZE} {SIZE}"', content, says)


def _drawing(attributes: str, content: str, says: str) -> Markup:
    """The whole chart; `says` is what a reader who does not see it is told."""
    return Markup(f'<svg {attributes} role="img" aria-label="{escape(says)}">{content}</svg>')
