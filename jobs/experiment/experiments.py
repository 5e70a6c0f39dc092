"""The declared experiments as a section of the funnel's page: what each is read as, and when all of it is known."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from jobs.evidence import charts
from jobs.evidence.charts import Mark, Scale
from jobs.experiment.mixed import PREFERENCE
from jobs.experiment.readout import RATIO, VERDICT

Row = Mapping[str, Any]
SIDES = (".control", ".variant")


def section(declared: Sequence[Row]) -> Markup:
    """Of rows of `readouts`, those of an experiment side by side; nothing where there is none."""
    if not declared:
        return Markup("")
    parts = [list(rows) for _, rows in groupby(declared, key=lambda row: row["experiment"])]
    return Markup(
        "<section><h2>Experiments</h2><p class=lead>Each as it was read last. Lifts are relative to control; a"
        " preference is a share of clicks. The first interval is for the planned last day alone, the second may be"
        " read on any day.</p>{}</section>"
    ).format(Markup("").join(_experiment(rows) for rows in reversed(parts)))


def _experiment(rows: Sequence[Row]) -> Markup:
    """Its verdicts and sample ratio in words, then a row a metric."""
    said = [f"{row['variant']}: {row['verdict']}" for row in rows if row["metric"] == VERDICT]
    said += [str(row["note"]) for row in rows if row["metric"] == RATIO]
    closes = max((row["closes_on"] for row in rows if row["closes_on"]), default=None)
    said += [f"The last label of what was shown so far closes on {closes}."] if closes else []
    levels = {(row["variant"], row["metric"]): row["value"] for row in rows}
    figures = [row for row in rows if row["metric"] not in (RATIO, VERDICT) and not row["metric"].endswith(SIDES)]
    known = [(row, _level(row, levels)) for row in figures]
    ends = [row[end] / level for row, level in known if level for end in ("low", "high")]
    scale = Scale.about_zero(ends) if ends else None
    return Markup("<h3>{} <small>{}</small></h3><p>{}</p><table class='dots forest'><tbody>{}</tbody></table>").format(
        rows[0]["experiment"],
        str(rows[0]["day"]),
        Markup("<br>").join(said),
        Markup("").join(_figure(row, level, scale) for row, level in known),
    )


def _level(row: Row, levels: Mapping[tuple[str, str], float | None]) -> float | None:
    """What a figure is told relative to: control's level, or 1 for a preference; None where there is no figure."""
    level = 1.0 if row["metric"] == PREFERENCE else levels.get((row["variant"], f"{row['metric']}.control"))
    return None if row["value"] is None or not level else level


def _figure(row: Row, level: float | None, scale: Scale | None) -> Markup:
    name = f"{row['metric']}, {row['variant']} over {row['control']}"
    if level is None or scale is None:
        return Markup("<tr><th scope=row>{}</th><td colspan=3>{}</td></tr>").format(name, row["note"])
    value, low, high, least, most = (row[of] / level for of in ("value", "low", "high", "always_low", "always_high"))
    closes = f"closes on {row['closes_on']}" if row["closes_on"] else ""
    return Markup("<tr><th scope=row>{}</th><td>{}<small>{}</small></td><td>{}</td><td class=plot>{}</td></tr>").format(
        name,
        f"{value:+.1%} ({low:+.1%} to {high:+.1%})",
        "; ".join(filter(None, [row["note"], closes])),
        f"{least:+.1%} to {most:+.1%}",
        charts.interval_row([Mark("challenger", value, low, high)], scale, name),
    )
