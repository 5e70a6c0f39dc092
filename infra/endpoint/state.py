"""The registry of the local endpoint: models, endpoint configs and endpoints in one JSON file.

The file is replaced whole (write, fsync, rename), so a kill at any moment leaves the old or the new registry, and a
restart serves what the last one said. One server per folder: a lock file keeps a second one out.
"""

import copy
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from infra.endpoint.errors import Rejected
from jobs.errors import Misconfigured

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Served:
    """An endpoint config in service: its variants' weights and instances as they are now, and the captured percentage.

    How many processes an instance has is the server's own setting.
    """

    config: str
    weights: dict[str, float]
    counts: dict[str, int]
    capture: int


@dataclass
class Deployment:
    """An update under way: what comes in, as it was asked for, and where it is (`shift.Shift`).

    `started` is on the wall clock, for it must outlast the server; `since` counts from there.
    """

    served: Served
    asked: dict[str, Any]
    started: float
    phase: str = "Creating"
    share: float = 0.0
    since: float = 0.0
    why: str | None = None
    restarts: int = 0


@dataclass
class Kept:
    """What served before, still loaded until a time."""

    served: Served
    until: float


@dataclass
class Endpoint:
    """One endpoint: `served` is what serves (or is being created), whatever an update is bringing up beside it."""

    served: Served
    status: str
    created: float
    modified: float
    deployment: Deployment | None = None
    kept: Kept | None = None
    last_deployment: dict[str, Any] | None = None
    """The newest `DeploymentConfig` that a caller gave."""
    failure: str | None = None

    @property
    def configs(self) -> set[str]:
        """Those that answer, or may soon."""
        return {self.served.config} | ({self.deployment.served.config} if self.deployment else set())


@dataclass
class State:
    """Everything boto3 created, by name; requests are kept as they came."""

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)


class Registry:
    """The state and its file `state.json` under `folder`, with a copy of every bundle that was ever put in service.

    Raises `Misconfigured` when another server holds the folder or the file is not this version's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._hold(folder / "lock")
        self._path = folder / "state.json"
        self.state = self._read()

    def save(self) -> None:
        """Replace the file with the state as it is now."""
        draft = self._path.with_suffix(".tmp")
        with draft.open("w") as file:
            json.dump({"schema_version": SCHEMA_VERSION, **asdict(self.state)}, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self._path)

    @contextmanager
    def unchanged_on_error(self) -> Iterator[None]:
        """An operation that cannot be written down was not done: the state is as before, and the caller is told."""
        before = copy.deepcopy(self.state)
        try:
            yield
        except OSError as error:
            vars(self.state).update(vars(before))
            raise Rejected(f"the registry needs to be written; found: {error}", "InternalFailure", 500) from error

    def kept(self, sha256: str) -> Path:
        """Where the copy of a bundle lies: a later training may replace its folder, what serves must not change."""
        return self.folder / "models" / sha256

    def keep(self, sha256: str, source: Path) -> None:
        """Copy a verified bundle; whole or not at all."""
        final = self.kept(sha256)
        draft = final.with_name(f".{sha256}.{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(draft, final)

    def forget(self, sha256: str) -> None:
        """Drop the copy of a bundle no model names any more."""
        shutil.rmtree(self.kept(sha256), ignore_errors=True)

    def close(self) -> None:
        """Let another server have the folder."""
        self._lock.close()

    def _read(self) -> State:
        if not self._path.is_file():
            return State()
        found = json.loads(self._path.read_text())
        if found.pop("schema_version", None) != SCHEMA_VERSION:
            raise Misconfigured(f"{self._path} must have schema_version {SCHEMA_VERSION}; found another one")
        endpoints = {name: _endpoint(**values) for name, values in found.pop("endpoints").items()}
        return State(**found, endpoints=endpoints)

    @staticmethod
    def _hold(path: Path) -> IO[str]:
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise Misconfigured(f"one endpoint server per folder; another one holds {path.parent}") from error
        return file


def _endpoint(
    served: dict[str, Any], deployment: dict[str, Any] | None, kept: dict[str, Any] | None, **rest: Any
) -> Endpoint:
    """Of the file's values."""

    def inside(values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "served": Served(**values["served"])}

    return Endpoint(
        Served(**served),
        deployment=None if deployment is None else Deployment(**inside(deployment)),
        kept=None if kept is None else Kept(**inside(kept)),
        **rest,
    )
