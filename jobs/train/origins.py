"""What a warm start continues, by kind: its parent, and the newest full training of the kind."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobs import bundle
from jobs.bundle import Bundle
from jobs.deployments import ledger
from jobs.lake.run import Run
from jobs.places import place
from models.delays.curve import DelayCurve
from models.rankers.protocol import Scorer

Row = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """Of one kind: the bundle it continues, and the newest full training whose bundle is still there, if any."""

    kind: str
    parent: Bundle
    full: Bundle | None

    @property
    def ranker(self) -> Scorer:
        """What is continued."""
        return self.part(self.parent)

    def part(self, of: Bundle) -> Scorer:
        """That of a bundle which is of the kind: of a champion continued for want of another perhaps its fallback."""
        return of.ranker if of.ranker.kind == self.kind else of.fallback

    @property
    def depth(self) -> int:
        """How many warm starts lie between it and a fit from scratch; a bundle of before this was counted: its mode."""
        lineage = self.parent.manifest["lineage"]
        return int(self._chain.get("depth", lineage.get("mode") == "warm"))

    @property
    def lost(self) -> int:
        """How many warm starts in a row, the parent the last of them, lost to what they continued."""
        return int(self._chain.get("lost_in_a_row", 0))

    @property
    def taught_until(self) -> datetime | None:
        """The newest row that anyone of the chain learned from; None where the bundle does not say."""
        said = self._chain.get("taught_until")
        return None if said is None else datetime.fromisoformat(said)

    @property
    def _chain(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.parent.manifest["lineage"].get("chain", {})
        return found


def champion(run: Run) -> Bundle | None:
    """Whose kind a warm start fits, as it was judged: the champion, or what served before it where the champion came
    out of this very training, or has learnt later days than it may see.
    """
    if run.mode != "warm":
        return None
    own = tuple(run.partition.values())
    row = ledger.champion(
        run,
        run.config.endpoint.name,
        where=lambda row: row["day"] <= run.day.isoformat() and (row["day"], row["mode"]) != own,
    )
    return None if row is None else bundle.load(place(row["bundle"]), row["bundle_sha256"])


def origins(run: Run, kinds: Sequence[str], champion: Bundle | None) -> dict[str, Origin]:
    """What a warm start continues, by kind: the newest bundle of that kind, deployed or not, which is still there.

    A network that learns its ids day by day must not lose the days since it was last deployed. Never one of this very
    training or of a later day; of one day that of the full training. Without any, the part of the champion's bundle
    that is of the kind.
    """
    if run.mode != "warm":
        return {}
    own, found = tuple(run.partition.values()), dict[str, Origin]()
    earlier = [
        row
        for row in run.read("candidates").to_pylist()
        if row["day"] <= run.day.isoformat() and (row["day"], row["mode"]) != own and place(row["bundle"]).is_dir()
    ]
    for kind in kinds:
        mine = [row for row in earlier if row["ranker"] == kind]
        newest, full = _newest(mine), _newest(row for row in mine if row["mode"] == "full")
        if newest is not None:
            parent = _loaded(newest)
            found[kind] = Origin(kind, parent, None if full is None else parent if full == newest else _loaded(full))
        elif champion is not None and kind in (champion.ranker.kind, champion.fallback.kind):
            found[kind] = Origin(kind, champion, None)
    return found


def curve(origins: Iterable[Origin]) -> DelayCurve | None:
    """The newest delay curve among what is continued; None where nobody has one."""
    known = [origin.parent for origin in origins if origin.parent.delays is not None]
    return max(known, key=lambda parent: parent.learned_until).delays if known else None


def _newest(rows: Iterable[Row]) -> Row | None:
    return max(rows, key=lambda row: (row["day"], row["mode"] == "full"), default=None)


def _loaded(row: Row) -> Bundle:
    return bundle.load(place(row["bundle"]), row["bundle_sha256"])
