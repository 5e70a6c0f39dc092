"""The evidence for the eyes: one picture and one self-contained page, both made from the document alone."""

import base64
import html as markup
import io
import json
from collections.abc import Mapping
from typing import Any

from jobs.backtest import data_warnings, dataset

INK, MUTED, CHAMPION, CHALLENGER, LOGGING = "#1c2b33", "#7a8a94", "#7a8a94", "#0a7d6c", "#c9a24b"
COLOURS = {"logging": LOGGING, "champion": CHAMPION, "challenger": CHALLENGER}
METRICS = {"auc": "AUC", "ndcg_at_10": "NDCG@10", "log_loss": "log-loss (nats, lower is better)"}
CSS = """
body{font:15px/1.5 system-ui,sans-serif;color:#1c2b33;max-width:60rem;margin:2.5rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}p.sub{color:#7a8a94;margin-top:0}
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:.35rem .6rem;border-bottom:1px solid #e3e8eb}
th:first-child,td:first-child{text-align:left}th{color:#7a8a94;font-weight:600}img{width:100%}
code,pre{font:12px/1.45 ui-monospace,monospace}pre{background:#f5f7f8;padding:1rem;overflow-x:auto}
"""


def png(document: Mapping[str, Any]) -> bytes:
    """Left: value per request with intervals, and the truth where it is known; right: the metric differences."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    places: Any = [["value", metric] for metric in METRICS]
    axes: dict[str, Any] = figure.subplot_mosaic(places, width_ratios=[1, 1.15])
    _draw_value(axes["value"], document)
    for metric in METRICS:
        _draw_difference(axes[metric], document, metric)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_value(axes: Any, document: Mapping[str, Any]) -> None:
    findings = {"logging": document["logging"]["value"], **document["value"]}
    truth = document.get("truth") or {}
    sides = list(COLOURS)
    for row, side in enumerate(sides):
        finding = findings[side]
        if "value" in finding:
            low, high = finding["value"] - finding["low"], finding["high"] - finding["value"]
            axes.errorbar(
                finding["value"], row, xerr=[[low], [high]], fmt="o", color=COLOURS[side], capsize=4, markersize=8
            )
        if side in truth:
            axes.plot(truth[side], row, marker="D", markersize=9, mfc="none", mec=INK, ls="none")
    if not any("value" in findings[side] for side in sides):
        axes.text(0.5, 0.5, "refused", transform=axes.transAxes, ha="center", color=MUTED)
        axes.set_xticks([])
    axes.set_yticks(range(len(sides)), sides)
    axes.set_ylim(-0.6, len(sides) - 0.4)
    axes.set_title("Clicks per request" + (" (diamond: truth)" if truth else ""), loc="left", color=INK, fontsize=11)
    _plain(axes)


def _draw_difference(axes: Any, document: Mapping[str, Any], metric: str) -> None:
    finding = document["comparison"][metric]["difference"]
    margin, sign = document["gate"]["must_not_fall"][metric], 1 if metric == "log_loss" else -1
    axes.axvline(0, color=MUTED, lw=0.8)
    if margin is not None:
        axes.axvline(sign * margin, color="#c0504d", lw=0.8, ls="--")
    if "value" in finding:
        low, high = finding["value"] - finding["low"], finding["high"] - finding["value"]
        axes.errorbar(finding["value"], 0, xerr=[[low], [high]], fmt="o", color=CHALLENGER, capsize=4)
    axes.set_yticks([])
    axes.set_title(f"{METRICS[metric]}: challenger - champion, margin dashed", loc="left", color=INK, fontsize=9)
    _plain(axes)


def _plain(axes: Any) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)


def table(document: Mapping[str, Any]) -> list[list[str]]:
    """Header and rows: each figure of champion, challenger and difference with its interval, truth last."""
    rows = [["", "champion", "challenger", "difference"]]
    for name, sides in {"value per request": document["value"], **document["comparison"]}.items():
        rows.append([METRICS.get(name, name), *(_cell(sides[s]) for s in ("champion", "challenger", "difference"))])
    if document.get("truth"):
        truth = document["truth"]
        rows.append(["true value (simulated)", *(f"{truth[s]:.5f}" for s in ("champion", "challenger", "difference"))])
    return rows


def markdown(document: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    header, *rows = table(document)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def html(document: Mapping[str, Any], image: bytes) -> str:
    """A page that needs nothing beside itself."""
    challenger, champion = document["challenger"], document["champion"]
    source = base64.b64encode(image).decode()
    header, *rows = table(document)
    cells = "".join(f"<tr>{''.join(f'<td>{markup.escape(c)}</td>' for c in row)}</tr>" for row in rows)
    limits = "".join(f"<li>{markup.escape(text)}</li>" for text in document["limitations"])
    title = f"{challenger['candidate_id']} against {champion['candidate_id']}"
    data = json.dumps({key: document[key] for key in ("data", "diagnostics", "calibration")}, indent=1, sort_keys=True)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{markup.escape(title)}</title><style>{CSS}</style>"
        f"<h1>{markup.escape(title)}</h1><p class=sub>Evidence of {document['day']}, {document['mode']} training, "
        f"bundle <code>{challenger['bundle_sha256'][:16]}</code></p>"
        f"<img alt='intervals' src='data:image/png;base64,{source}'>"
        f"<table><tr>{''.join(f'<th>{h}</th>' for h in header)}</tr>{cells}</table>"
        f"{dataset.html(document['dataset'])}{data_warnings.html(document['warnings'])}"
        f"<h2>What this cannot say</h2><ul>{limits}</ul><h2>Data and diagnostics</h2>"
        f"<pre>{markup.escape(data)}</pre></html>\n"
    )


def _cell(finding: Mapping[str, Any]) -> str:
    if "refused" in finding:
        return f"refused: {finding['refused']}"
    return f"{finding['value']:.5f} [{finding['low']:.5f}, {finding['high']:.5f}]"
