"""The data card of the dataset a challenger learned from, as `assemble` wrote it, for whoever approves it."""

import html as markup
import json
from collections.abc import Mapping
from typing import Any

SPLITS = ("train", "validate", "test")
ROWS = {
    "rows": "examples",
    "users": "users",
    "items": "items",
    "anonymous": "without a user",
    "clicked": "clicked",
    "clicked_unknown": "click not known yet",
    "converted": "converted",
    "converted_unknown": "conversion not known yet",
    "weight": "impressions they stand for",
}


def published(lineage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The card in the notes of the commit that published a dataset; None where it has none."""
    notes = json.loads(lineage["notes"]) if lineage else {}
    return dict(json.loads(notes["card"])) if "card" in notes else None


def figures(card: Mapping[str, Any]) -> dict[str, float]:
    """The card as flat metrics: `dataset.train.rows`, `dataset.train.weight`, `dataset.train.click_rate`, …"""
    names = ("rows", "users", "items", "weight", "click_rate", "clicked_unknown")
    told = {(split, name): found[name] for split, found in card["splits"].items() for name in names}
    return {f"dataset.{split}.{name}": float(value) for (split, name), value in told.items() if value is not None}


def html(card: Mapping[str, Any] | None) -> str:
    """A section of the page: the splits side by side, the train surfaces, and what was left out of them."""
    if card is None:
        return "<h2>Its dataset</h2><p>Published without a data card.</p>"
    splits = {name: card["splits"][name] for name in SPLITS}
    lines = [_line("", [markup.escape(name) for name in splits], "th")]
    lines.append(_line("days", [f"{first} to {last}" for first, last, _ in (s["days"] for s in splits.values())]))
    for name, words in ROWS.items():
        lines.append(_line(words, [f"{split[name]:,.0f}" for split in splits.values()]))
    lines.append(_line("click rate", [_rate(split) for split in splits.values()]))
    for surface in splits["train"]["surfaces"]:
        found = [split["surfaces"].get(surface) for split in splits.values()]
        cells = ["none" if figures is None else f"{figures['rows']:,} at {_rate(figures)}" for figures in found]
        lines.append(_line(f"examples on {markup.escape(surface)}", cells))
    left_out = {reason: sum(by.values()) for reason, by in splits["train"]["left_out"].items()}
    told = ", ".join(f"{n:,} {markup.escape(reason.replace('_', ' '))}" for reason, n in left_out.items()) or "none"
    return (
        f"<h2>Its dataset</h2><table>{''.join(lines)}</table><p>Of {card['impressions_read']:,} impressions, "
        f"left out of train by choice: {told}; copies or unknown at the cut: {card['copies_or_unknown_at_cut']:,}. "
        f"Items under another item's id: {card['duplicate_items']:,}. "
        f"Days declared lost: {', '.join(card.get('lost_days', ())) or 'none'}. "
        f"A probability is {markup.escape(card['probabilities'])}.</p>"
    )


def _line(name: str, cells: list[str], cell: str = "td") -> str:
    return f"<tr><{cell}>{name}</{cell}>{''.join(f'<{cell}>{text}</{cell}>' for text in cells)}</tr>"


def _rate(figures: Mapping[str, Any]) -> str:
    return "unknown" if figures["click_rate"] is None else f"{figures['click_rate']:.4f}"
