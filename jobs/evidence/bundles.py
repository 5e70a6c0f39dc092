"""What tells one bundle from another: the settings, data and policy their bytes come from, where these differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.evidence.document import Candidate

LONGEST = 80
"""Letters of a text on the page; a list of columns can be long, and what differs comes first."""


@dataclass(frozen=True)
class Differing:
    """What the champion has by a name, and what the challenger has."""

    name: str
    champion: str
    challenger: str


def differing(champion: Candidate, challenger: Candidate) -> list[Differing]:
    """Of ranker, policy, what they learned until and lineage, by path, whatever is not the same."""
    before, after = (dict(_flat("", _told(side))) for side in (champion, challenger))
    return [
        Differing(name, *_apart(before.get(name), after.get(name)))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]


def _told(side: Candidate) -> dict[str, Any]:
    return {
        "ranker": side.ranker,
        "policy": side.policy.model_dump(mode="json"),
        "learned_until": side.learned_until,
        **{name: told for name, told in side.lineage.items() if name != "learned_until"},
    }


def _flat(path: str, tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for name, part in tree.items():
            yield from _flat(f"{path}.{name}" if path else str(name), part)
    else:
        yield path, tree


def _apart(before: Any, after: Any) -> tuple[str, str]:
    """Both as text; of two lists only what the other lacks, unless they differ in their order."""
    if isinstance(before, list) and isinstance(after, list):
        only = [part for part in before if part not in after], [part for part in after if part not in before]
        if any(only):
            return _text(only[0]), _text(only[1])
    return _text(before), _text(after)


def _text(told: Any) -> str:
    if told is None or told in ([], {}):
        return "none"
    text = ", ".join(map(str, told)) if isinstance(told, list) else str(told)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
