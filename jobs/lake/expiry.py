"""A table's log cut to the versions that stay readable: those of the last days, and those that something rests on.

Nothing is cut but what a checkpoint replaces that is there for an hour: whoever opened the table before it was written
has opened it by then. What the entries said of partitions is remembered first (`jobs.lake.remembered`). Part files are
not touched here: those that no version names any more are for `jobs.lake.vacuum`. Killed anywhere, every version that
is to stay can be read; one that is not may be gone.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jobs.errors import NotReady
from jobs.lake import log, remembered
from jobs.lake.remembered import Infos
from jobs.lake.store import Lake
from jobs.places import Place

SPACED = 50
"""So many versions lie between two checkpoints at least: an older version is read from the one before it."""
SETTLED = timedelta(hours=1)
"""So long a checkpoint is there before the entries it replaces may go."""
WORTH = 10
"""So many entries are worth two checkpoints."""


@dataclass(frozen=True)
class Versions:
    """What lies in a log: its entries by version, and the checkpoints, with when each was written."""

    entries: dict[int, float]
    checkpoints: dict[int, float]
    names: tuple[str, ...]

    @classmethod
    def of(cls, folder: Place) -> "Versions":
        """As it lies there now."""
        found = log.contents(folder)
        entries = {int(name[:20]): at for name, at in found.items() if name == log.ENTRY.format(log.version_of(name))}
        written = dict.fromkeys(log.checkpoints(found), 0.0)
        for name, at in found.items():
            if log.CHECKPOINT.match(name):
                written[int(name[:20])] = max(written[int(name[:20])], at)
        return cls(dict(sorted(entries.items())), dict(sorted(written.items())), tuple(found))

    def at(self, moment: datetime) -> int | None:
        """The version that was the newest at a moment; None where the log does not reach back so far."""
        later = (version for version, at in self.entries.items() if at > moment.timestamp())
        first = next(later, None)  # of a clock that was set back the older word counts
        return max((version for version in self.entries if first is None or version < first), default=None)

    def needed(self, version: int) -> set[int]:
        """The entries that a version is read from, its checkpoint's own among them: that one says when it was."""
        start = max((found for found in self.checkpoints if found <= version), default=0)
        return {found for found in self.entries if start <= found <= version}

    def crowded(self, base: int, settled: float) -> set[int]:
        """Checkpoints after `base` that lie too near to the one before; the newest stays."""
        last, found = base, set()
        for version in [one for one in self.checkpoints if one > base][:-1]:
            if version - last < SPACED and self.checkpoints[version] <= settled:
                found.add(version)
            else:
                last = version
        return found


def expire(lake: Lake, table: str, pinned: Iterable[int], since: datetime, now: datetime) -> int:
    """Cut the log of a table to the versions since a moment and the pinned ones; returns how many entries went."""
    folder = lake.root / table
    found = Versions.of(folder)
    oldest = found.at(since)
    if oldest is None:
        return 0
    settled = (now - SETTLED).timestamp()
    ready = [version for version, at in found.checkpoints.items() if version <= oldest and at <= settled]
    base = max(ready, default=0)
    pins = {version for version in pinned if version < base}
    cut = _cut(lake, table, found, base, pins, settled)
    if sum(base <= version < oldest for version in found.entries) >= WORTH and oldest not in found.checkpoints:
        # For the next time. The newest comes last, since a table is opened by the last one that was written.
        log.checkpoint(lake.root, table, oldest)
        log.checkpoint(lake.root, table, None)
    return cut


def _cut(lake: Lake, table: str, found: Versions, base: int, pins: set[int], settled: float) -> int:
    """Delete the entries before `base` that no pinned version needs, and checkpoints that nothing is read from."""
    folder = lake.root / table
    stay = {version for pin in pins for version in found.needed(pin)}
    gone = [version for version in found.entries if version < base and version not in stay]
    begun = {max((one for one in found.checkpoints if one <= pin), default=0) for pin in pins}
    old = found.crowded(base, settled) | {one for one in found.checkpoints if one < base and one not in begun}
    if gone:
        # Read after the log was listed: what another maintenance had cut by then it had remembered before.
        known, said_in = remembered.read(folder)
        said = {version: _said(folder, table, version) for version in found.entries if version <= base}
        remembered.write(folder, kept(known | said, {base, *pins}), said_in)
    files = [name for name in found.names if log.CHECKPOINT.match(name) and int(name[:20]) in old]
    for name in (*map(log.ENTRY.format, gone), *files):
        with suppress(FileNotFoundError):
            (folder / log.FOLDER / name).unlink()
    return len(gone)


def _said(folder: Place, table: str, version: int) -> dict[str, Any]:
    try:
        return log.info(log.actions(folder / log.FOLDER / log.ENTRY.format(version), table))
    except FileNotFoundError as error:
        raise NotReady(f"the log of {table} needs one maintenance at a time; found another one: run again") from error


def kept(infos: Infos, versions: set[int]) -> Infos:
    """Of what commits said, what some of these versions still stand on: the last word on each of their partitions."""
    found: set[int] = set()
    for version in versions:
        last: dict[str, int] = {}
        for number in sorted(number for number in infos if number <= version):
            if (partition := remembered.partition(infos[number])) is not None:
                last[partition] = number
        found |= set(last.values())
    return {number: infos[number] for number in found}
