"""Run by `test_full_disk.py` in a mount namespace of its own: a small disk that fills up, then takes no more writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.exactly_once import readers
from tests.exactly_once.small_world import FIRST, SmallWorld

DISK = "32m"
TRIED = ("ingest", "attribute")
"""One that writes the raw lake, one that writes tables."""


def ended(world: SmallWorld, stage: str) -> tuple[int, str]:
    """Exit code and the whole of stderr."""
    child = world.start(stage, FIRST)
    _, err = child.communicate(timeout=120)
    return child.returncode, err


def main(home: Path) -> None:
    """Print what each stage said on the full and on the closed disk, and whether readers still saw the old rows."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(home)], check=True)
    world = SmallWorld(home, more={"features.online": "false"})
    for stage in ("ingest", "validate", "attribute"):
        world.run(stage, FIRST)
    before = readers.units(world)
    said = {}
    for name in ("full", "read-only"):
        filler = home / "filler"
        if name == "full":
            # To the last byte, whatever page the tail lies on.
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"x" * 4096)
                except OSError:
                    pass
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        for stage in TRIED:
            code, err = ended(world, stage)
            said[f"{name} {stage}"] = [code, err, readers.units(world) == before]
        if name == "full":
            os.unlink(filler)
            for stage in TRIED:
                world.run(stage, FIRST)
            said["freed"] = [0, "", readers.units(world) == before]
    print(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
