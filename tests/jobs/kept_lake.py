"""A small lake that is laid once for many tests, each of which finds it as it was laid."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.config import Config
from tests.jobs.small_lake import settings


@dataclass(frozen=True)
class Kept:
    """Where its rows say that it lies, and a copy to put back there; the settings that it was laid under."""

    world: Path
    copy: Path
    overrides: dict[str, str]

    @classmethod
    def of(cls, home: Path, session: Path, lay: Callable[[Config], object], **overrides: str) -> "Kept":
        """Laid below `home` by `lay`; the other words are those of `tests.jobs.small_lake.settings`."""
        world = home / "world"
        lay(settings(world, session, **overrides))
        return cls(world, Path(shutil.copytree(world, home / "copy")), overrides)

    def again(self, folder: Path, **overrides: str) -> Config:
        """Put back. MLflow keeps a database open: the one of before is another one, in `folder`, every time."""
        shutil.rmtree(self.world)
        shutil.copytree(self.copy, self.world)
        database = Path(tempfile.mkdtemp(dir=folder)) / "mlflow.db"
        shutil.copy(self.copy / "mlflow.db", database)
        return settings(
            self.world, self.world, **{**self.overrides, **overrides, "tracking__uri": f"sqlite:///{database}"}
        )
