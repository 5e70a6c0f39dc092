"""The two curves as one HTML page: inline SVG, no script, no font, no network."""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

from jobs.evidence.charts import ticks
from jobs.evidence.scored import MEASURED
from jobs.learning_curve.core import Curves, Point, Window
from models.evaluation.estimate import Estimate

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 420, 240, 64, 42, 12, 16
STYLE = """body{font:15px/1.5 sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222;background:#fff}
svg{width:100%;max-width:460px} .curve{fill:none;stroke:#4269d0;stroke-width:2} .dot{fill:#4269d0}
.bar{stroke:#4269d0;stroke-width:1.5} .grid{stroke:#ddd} text{font-size:11px;fill:#444}
.pair{display:flex;flex-wrap:wrap;gap:1em} table{border-collapse:collapse} td,th{padding:.15em .7em;text-align:right}"""


def html(kind: str, day: str, curves: Curves) -> str:
    """The page of one ranker's curves on one dataset."""
    stale = curves.fresh_days
    told = f"More than {curves.enough_days} days of history are no better for sure. " + (
        "No staleness shows for sure." if stale is None else f"A frozen model is worse for sure after {stale} days."
    )
    parts = [f"<h1>{escape(kind)} on the dataset of {escape(day)}</h1><p>{escape(told)}</p>"]
    for metric in MEASURED:
        drawn = (
            chart(curves.history, metric, "days of history", lambda window: window.days),
            chart(curves.staleness, metric, "days since it learned", lambda window: window.gap),
        )
        parts.append(f"<h2>{escape(metric)}</h2><div class=pair>{drawn[0]}{drawn[1]}</div>")
    parts += [_table("History", curves.history), _table("Staleness", curves.staleness)]
    return f"<!doctype html><meta charset=utf-8><title>Learning curve</title><style>{STYLE}</style>{''.join(parts)}"


def chart(points: Sequence[Point], metric: str, axis: str, at: Callable[[Window], int]) -> Markup:
    """A metric with its intervals against a number of days, which stand at equal ratios (of one more than they are)."""
    known = [(at(p.window), found) for p in points if isinstance(found := p.metrics[metric], Estimate)]
    if not known:
        return Markup("<p>{} cannot be told from these rows.</p>").format(metric)
    low, high = min(found.low for _, found in known), max(found.high for _, found in known)
    room = 0.08 * (high - low) or 0.01
    low, high = low - room, high + room
    most = math.log1p(max(days for days, _ in known)) or 1.0

    def place(days: int, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * math.log1p(days) / most
        return round(x, 1), round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    drawn = []
    for value in ticks(low, high):
        y = place(0, value)[1]
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.4g}</text>')
    for days, found in known:
        x, y = place(days, found.value)
        ends = (place(days, found.low)[1], place(days, found.high)[1])
        drawn.append(f'<line class="bar" x1="{x}" x2="{x}" y1="{ends[0]}" y2="{ends[1]}"/>')
        drawn.append(f'<circle class="dot" cx="{x}" cy="{y}" r="4"/>')
        drawn.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{days}</text>')
    line = " ".join(f"{x},{y}" for x, y in (place(days, found.value) for days, found in known))
    drawn.append(f'<polyline class="curve" points="{line}"/>')
    drawn.append(f'<text x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(axis)}</text>')
    says = escape(f"{metric} against {axis}")
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{says}">{"".join(drawn)}</svg>')


def _table(title: str, points: Sequence[Point]) -> str:
    head = "".join(f"<th>{escape(name)}<th>difference" for name in MEASURED)
    rows = []
    for point in points:
        cells = "".join(
            f"<td>{_said(point.metrics[name])}<td>{_said(point.difference[name], '+')}" for name in MEASURED
        )
        rows.append(f"<tr><td>{point.window.days}<td>{point.window.gap}<td>{point.rows:,}{cells}")
    return f"<h2>{title}</h2><table><tr><th>days<th>ended days ago<th>rows{head}{''.join(rows)}</table>"


def _said(found: object, sign: str = "") -> str:
    if not isinstance(found, Estimate):
        return "refused"
    return f"{found.value:{sign}.4f} [{found.low:{sign}.4f}, {found.high:{sign}.4f}]"
