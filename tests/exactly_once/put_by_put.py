"""Run by `test_kills_on_s3.py`: a bundle and a pack of evidence are put by children, each of which dies one put later;
a table is maintained by such, which die one put or one deleted object later.

What readers find after each death is printed as JSON, that of an undisturbed child last.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import numpy as np

from jobs import bundle
from jobs.errors import Refused
from jobs.lake import expiry, small_files
from jobs.lake.store import Lake, Lineage
from jobs.lake.swap import put_folder
from jobs.lake.vacuum import vacuum_table
from jobs.places import S3Path, place, write_parquet
from models.rankers import fit
from models.rankers.protocol import TrainingData
from models.settings import PolicySettings, RankerSettings
from tests.exactly_once.shim import sitecustomize
from tests.jobs import aged_lake

PACKS = {
    name: {"evidence.json": f'"{name}"'.encode(), "page.html": name.encode(), "z.json": b"{}"}
    for name in ("old", "new")
}


def drafted(folder: Path, clicks: int) -> bundle.Bundle:
    """A bundle whose content depends on a number."""
    clicked = np.array([1.0] * clicks + [0.0] * (10 - clicks))
    data = TrainingData({"item_id": np.array(["a", "b"] * 5, dtype=object)}, clicked, np.full(10, np.nan), np.ones(10))
    ranker = fit("popularity", data, RankerSettings())
    return bundle.write(folder / str(clicks), "popularity", ranker, ranker, None, PolicySettings(), {})


def deaths(put: Callable[[], object], seen: Callable[[], str], kind: str = "put") -> list[str]:
    """What is seen after a child was killed before its first put (or so), its second, and so on until one lived."""
    found = []
    for number in count(1):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.environ.update(KILL_AT=f"{kind}:{number}", KILL_BELOW="/nowhere")
            sitecustomize.arm()
            put()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        found.append(seen())
        if status == 0:
            return found
    raise AssertionError


DAY, PARTS, VERSIONS, PINNED, KEPT_DAYS = date(2026, 1, 1), 3, 12, 5, 3
BY = Lineage("attribute", "r", "c", "s")


def in_child(call: Callable[[], object]) -> str:
    """What a call gives, as JSON, of a process of its own: who has used delta-rs cannot fork."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writing, json.dumps(call(), default=str).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = told.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "see above"
    return said


def lay(root: S3Path) -> None:
    """A day in parts; another one that was published again and again: the log has a checkpoint of the tenth commit."""
    lake = Lake(root)
    folder = lake.staging("labels", "spark") / f"day={DAY}"
    parts = [folder / f"part-{number}.parquet" for number in range(PARTS)]
    for part in parts:
        write_parquet(aged_lake.rows("labels", 1, DAY, part.stem), part)
    lake.publish("labels", {"day": str(DAY)}, parts, BY)
    for number in range(VERSIONS):
        rows = aged_lake.rows("labels", 1, DAY, f"r{number}")
        lake.publish("labels", {"day": str(DAY + timedelta(days=1))}, rows, BY)


def maintain(root: S3Path) -> None:
    """As the stage does in ten days; objects say when they were put, so the clock goes on."""
    now = aged_lake.moment(time.time() + 10 * aged_lake.DAY_SECONDS)
    small_files.compact(Lake(root), "labels", now)
    expiry.expire(Lake(root), "labels", [PINNED], now - timedelta(days=KEPT_DAYS), now)
    vacuum_table(Lake(root), "labels", now.timestamp())


def rows_and_lineage(root: S3Path) -> object:
    """Now, and at the version that something rests on."""
    lake = Lake(root)
    told = lake.lineages("labels", lake.days("labels"))
    then = [lake.read("labels", version=version).to_pylist() for version in (VERSIONS, PINNED)]
    return lake.read("labels").to_pylist(), then, [(str(day), told[day]) for day in sorted(told)]


def counted(root: S3Path) -> object:
    """How many entries, part files of now and part files there are; each of these is named by a version."""
    lake, parts = Lake(root), set((root / "labels" / "parts").rglob("*.parquet"))
    assert parts <= lake.named("labels"), parts
    entries = [path for path in (root / "labels" / "_delta_log").iterdir() if path.suffix == ".json"]
    return len(entries), len(lake.files("labels")), len(parts)


def maintained(root: S3Path) -> dict[str, list[str]]:
    """Of each kind of moment, what is seen after each death; what lies there after the last is added."""
    found = {}
    for kind in ("put", "delete"):
        at = root / kind
        in_child(lambda at=at: lay(at))  # type: ignore[misc]
        before = in_child(lambda at=at: rows_and_lineage(at))  # type: ignore[misc]

        def seen(at: S3Path = at, before: str = before) -> str:
            return "as before" if in_child(lambda: rows_and_lineage(at)) == before else "otherwise"

        found[kind] = [*deaths(lambda at=at: maintain(at), seen, kind), in_child(lambda at=at: counted(at))]  # type: ignore[misc]
    return found


def main(address: str, home: Path) -> None:
    """One after the other below an address of S3."""
    root = place(address)
    old, new = drafted(home, 3), drafted(home, 4)
    bundle.keep(old, root / "bundles")

    def bundles() -> str:
        bundle.load(bundle.kept(old, root / "bundles"), old.sha256)
        try:
            bundle.load(bundle.kept(new, root / "bundles"), new.sha256)
        except Refused as error:
            return "old" if "needs manifest.json" in str(error) else str(error)
        return "old and new"

    pack = root / "evidence"
    put_folder(pack, {**PACKS["old"], "verdict.json": b"{}"}, last="evidence.json")

    def packs() -> str:
        name = str(json.loads((pack / "evidence.json").read_text()))
        files = {path.name: path.read_bytes() for path in pack.iterdir()}
        assert name == "old" or files == PACKS["new"], files
        return name

    said = {
        "bundle": deaths(lambda: bundle.keep(new, root / "bundles"), bundles),
        "pack": deaths(lambda: put_folder(pack, PACKS["new"], last="evidence.json"), packs),
        **maintained(root / "lake"),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
