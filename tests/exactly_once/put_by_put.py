"""Run by `test_kills_on_s3.py`: a bundle and a pack of evidence are put by children, each of which dies one put later.

What readers find after each death is printed as JSON, that of an undisturbed child last.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np

from jobs import bundle
from jobs.errors import Refused
from jobs.lake.swap import put_folder
from jobs.places import place
from models.rankers import fit
from models.rankers.protocol import TrainingData
from models.settings import PolicySettings, RankerSettings
from tests.exactly_once.shim import sitecustomize

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


def deaths(put: Callable[[], object], seen: Callable[[], str]) -> list[str]:
    """What is seen after a child was killed before its first put, its second, and so on until one lived."""
    found = []
    for number in count(1):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.environ.update(KILL_AT=f"put:{number}", KILL_BELOW="/nowhere")
            sitecustomize.arm()
            put()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL), status
        found.append(seen())
        if status == 0:
            return found
    raise AssertionError


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
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
