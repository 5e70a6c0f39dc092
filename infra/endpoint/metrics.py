"""Counters as `GET /metrics` shows them: Prometheus' text format 0.0.4, since the process started."""

from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[dict[str, str], int]
"""Labels and the number."""


def answers(outcomes: Mapping[tuple[str, str], int]) -> str:
    """Answers by bundle and outcome (`decide.OUTCOMES`)."""
    samples = [({"bundle": bundle, "outcome": outcome}, n) for (bundle, outcome), n in sorted(outcomes.items())]
    return _counter("tidegate_answers_total", "Answers; all but the ranked ones were made by popularity.", samples)


def retrieved(finders: Mapping[tuple[str, str], int]) -> str:
    """Answers to requests that brought no candidates, by bundle and who found them."""
    samples = [({"bundle": bundle, "by": by}, n) for (bundle, by), n in sorted(finders.items())]
    return _counter("tidegate_retrieved_total", "Answers whose candidates were retrieved, by what found them.", samples)


def captured(written: int, lost: int) -> str:
    """Lines of the data capture."""
    samples = [({"outcome": "lost"}, lost), ({"outcome": "written"}, written)]
    return _counter("tidegate_captured_total", "Answers meant for the data capture.", samples)


def _counter(name: str, text: str, samples: Iterable[Sample]) -> str:
    lines = []
    for labels, number in samples:
        pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
        lines.append(f"{name}{{{pairs}}} {number}\n")
    return f"# HELP {name} {text}\n# TYPE {name} counter\n{''.join(lines)}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
