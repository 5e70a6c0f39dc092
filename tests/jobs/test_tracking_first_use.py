"""MLflow's first use, killed or begun twice at once, ends with one whole database; each of its errors has its kind."""

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc

from jobs import config, tracking
from jobs.config import ROOT, Config
from jobs.errors import Misconfigured, NotReady, TidegateError, kind_of
from jobs.tracking.client import SETTLED_SECONDS
from jobs.tracking.client import kind as kind_of_mlflow

LOG = """
import sys
from pathlib import Path
from jobs import config, tracking
uri, folder, candidate = sys.argv[1:]
settings = config.load({"TIDEGATE__TRACKING__URI": uri, "TIDEGATE__TRACKING__ARTIFACTS": folder + "/artifacts"})
print(tracking.log_ranker(settings, candidate, Path(folder) / "bundle", None, {}, {}, {"bundle_sha256": "sha"}))
"""


def at(uri: str, folder: Path) -> Config:
    """Settings whose MLflow is there; the folder holds a bundle to log."""
    (folder / "bundle").mkdir(exist_ok=True)
    (folder / "bundle" / "manifest.json").write_text("{}")
    return config.load({"TIDEGATE__TRACKING__URI": uri, "TIDEGATE__TRACKING__ARTIFACTS": str(folder / "artifacts")})


def log(settings: Config) -> str:
    """What `train` does: the run's id."""
    bundle = settings.tracking.artifacts.parent / "bundle"
    return tracking.log_ranker(settings, "candidate", bundle, None, {}, {}, {"bundle_sha256": "sha"})


def started(uri: str, folder: Path, candidate: str = "candidate") -> subprocess.Popen[str]:
    """The same in a process of its own."""
    words = [sys.executable, "-c", LOG, uri, str(folder), candidate]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def both(uri: str, folder: Path) -> list[str]:
    """Two first uses at once; what each says, all of it where it failed.

    Of two candidates: of the same one the second takes what the first has begun for a try that was ended.
    """
    processes = [started(uri, folder, candidate) for candidate in ("candidate", "other")]
    spoken = [process.communicate() for process in processes]
    return [out if p.returncode == 0 else err for p, (out, err) in zip(processes, spoken, strict=True)]


def test_a_first_use_that_is_killed_is_made_anew_and_two_at_once_make_one(tmp_path: Path) -> None:
    """It used to leave a database that no later run could use, and of two first runs one failed."""
    path = tmp_path / "mlflow" / "m.db"
    settings = at(f"sqlite:///{path}", tmp_path)
    first = started(settings.tracking.uri, tmp_path)
    while first.poll() is None and not list(path.parent.glob(".m.db.*.made")):
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not path.exists()
    runs = both(settings.tracking.uri, tmp_path)
    assert all(len(run.strip()) == 32 for run in runs), runs
    assert log(settings) in [run.strip() for run in runs]
    assert sorted(p.name for p in path.parent.iterdir() if "lock" not in p.name) == ["m.db"]


def half_made(path: Path, *statements: str) -> Path:
    """A file as MLflow leaves it that was killed early: some tables, no version."""
    tables = ("CREATE TABLE registered_model_tags (key)", "CREATE TABLE runs (run_uuid)")
    with sqlite3.connect(path) as database:
        for statement in (*tables, *statements):
            database.execute(statement)
    database.close()
    (path.parent / f"{path.name}-journal").write_bytes(b"")
    return path


def test_a_file_that_somebody_left_unfinished_is_made_anew_once_nobody_works_on_it(tmp_path: Path) -> None:
    """A server killed at its first use, or still at it."""
    path = half_made(tmp_path / "m.db")
    settings = at(f"sqlite:///{path}", tmp_path)
    with pytest.raises(NotReady, match="being created a moment ago"):
        log(settings)
    then = time.time() - SETTLED_SECONDS
    os.utime(path, (then, then))
    assert len(log(settings)) == 32


def test_a_file_that_holds_runs_is_never_made_anew(tmp_path: Path) -> None:
    """Whatever is wrong with it: a person decides, and the sentence does not ask to wait."""
    path = half_made(tmp_path / "m.db", "INSERT INTO runs VALUES ('mine')")
    os.utime(path, (0, 0))
    with pytest.raises(Misconfigured, match="must be open to us and of this version of MLflow"):
        log(at(f"sqlite:///{path}", tmp_path))
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT * FROM runs").fetchall() == [("mine",)]
    database.close()


@pytest.mark.parametrize(
    ("uri", "kind", "sentence"),
    [
        ("foo://x", Misconfigured, "unsupported URI"),
        ("mysql://a:b@127.0.0.1:1/x", Misconfigured, "needs a package that is not installed"),
        ("postgresql+psycopg9://127.0.0.1:1/x", Misconfigured, "Can't load plugin"),
        ("sqlite:///{folder}/text", Misconfigured, "not a database"),
        ("sqlite:///{folder}/bundle", Misconfigured, "unable to open database file"),
        ("sqlite:///{folder}/text/m.db", Misconfigured, "settings must name folders"),
        ("postgresql+psycopg2://me:secret@127.0.0.1:{closed}/x", NotReady, "MLflow must answer at postgresql.*127"),
        ("http://me:secret@127.0.0.1:{closed}", NotReady, "MLflow must answer at http://me:.*@127"),
    ],
)
def test_an_address_that_no_waiting_makes_good_is_a_setting(
    uri: str, kind: type[TidegateError], sentence: str, tmp_path: Path
) -> None:
    """Nor is a password told to whoever reads the log."""
    (tmp_path / "text").write_text("no database at all, whatever its name says" * 99)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        closed = listening.getsockname()[1]
    settings = at(uri.format(folder=tmp_path, closed=closed), tmp_path)
    with pytest.raises((TidegateError, OSError)) as found:
        log(settings)
    ended = kind_of(found.value)
    assert type(ended) is kind, ended
    assert re.search(sentence, str(ended)), ended
    assert "secret" not in str(ended)
    assert kind is NotReady or "must answer" not in str(ended)


def test_a_disk_that_takes_no_artifacts_is_no_mlflow_that_does_not_answer(tmp_path: Path) -> None:
    """With a bare database the bundles are copied by us, to a folder of ours."""
    (tmp_path / "text").write_text("")
    settings = at(f"sqlite:///{tmp_path / 'm.db'}", tmp_path)
    bundle = settings.tracking.artifacts.parent / "bundle"
    closed = settings.tracking.model_copy(update={"artifacts": tmp_path / "text" / "artifacts"})
    wrong = settings.model_copy(update={"tracking": closed})
    with pytest.raises(NotADirectoryError) as found:
        tracking.log_ranker(wrong, "candidate", bundle, None, {}, {}, {"bundle_sha256": "sha"})
    assert type(kind_of(found.value)) is Misconfigured


def of_sqlite(*script: str) -> sqlite3.Error:
    """What SQLite really says of the last of these statements."""
    database = sqlite3.connect(":memory:")
    for statement in script[:-1]:
        database.execute(statement)
    with pytest.raises(sqlite3.Error) as found:
        database.execute(script[-1])
    return found.value


def of_mlflow(code: str, cause: Exception | None = None) -> Exception:
    """As MLflow raises it."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    error: Exception = MlflowException(str(cause or "no"), error_code=ErrorCode.Value(code))
    error.__cause__ = cause
    return error


FULL = ("PRAGMA max_page_count = 2", "CREATE TABLE a (x)", "CREATE TABLE b (x)")
UNIQUE = ("CREATE TABLE a (x UNIQUE)", "INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (1)")
AGAIN = ("CREATE TABLE a (x)", "CREATE TABLE a (x)")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of_sqlite(*FULL), NotReady),
        (sqlite3.OperationalError("database is locked"), NotReady),
        (of_sqlite(*AGAIN), Misconfigured),
        (of_sqlite("SELECT 1 FROM nowhere"), Misconfigured),
        (sqlite3.OperationalError("attempt to write a readonly database"), Misconfigured),
        (exc.OperationalError("SELECT 1", {}, Exception("could not connect to server: Connection refused")), NotReady),
        (exc.OperationalError("", {}, Exception('password authentication failed for user "me"')), Misconfigured),
        (exc.OperationalError("", {}, Exception('FATAL: database "x" does not exist')), Misconfigured),
        (exc.TimeoutError("QueuePool limit"), NotReady),
        (exc.ProgrammingError("", {}, Exception('relation "runs" does not exist')), Misconfigured),
        (exc.IntegrityError("", {}, of_sqlite(*UNIQUE)), NotReady),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_database_says_has_its_kind_said_by_mlflow_or_not(error: Exception, kind: type[TidegateError]) -> None:
    """MLflow gives nearly all of them the code of a server that is busy."""
    for passed_on in (error, of_mlflow("TEMPORARILY_UNAVAILABLE", error), of_mlflow("BAD_REQUEST", error)):
        assert type(kind_of_mlflow("sqlite:///m.db", passed_on)) is kind, passed_on


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INTERNAL_ERROR", NotReady),
        ("TEMPORARILY_UNAVAILABLE", NotReady),
        ("REQUEST_LIMIT_EXCEEDED", NotReady),
        ("INVALID_PARAMETER_VALUE", Misconfigured),
        ("ENDPOINT_NOT_FOUND", Misconfigured),
        ("RESOURCE_DOES_NOT_EXIST", Misconfigured),
        ("UNAUTHENTICATED", Misconfigured),
        ("PERMISSION_DENIED", Misconfigured),
        ("NOT_IMPLEMENTED", Misconfigured),
    ],
)
def test_an_answer_of_the_server_is_waited_for_only_where_it_can_change(code: str, kind: type[TidegateError]) -> None:
    """A server that is no MLflow, or a run that somebody deleted, will be no other in ten minutes."""
    assert type(kind_of_mlflow("http://127.0.0.1:5000", of_mlflow(code))) is kind


def test_a_database_of_another_mlflow_names_the_remedy(tmp_path: Path) -> None:
    """The environment was upgraded and the database was not: MLflow's own command does it, after a backup."""
    path = tmp_path / "m.db"
    settings = at(f"sqlite:///{path}", tmp_path)
    log(settings)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    database.close()
    later = started(settings.tracking.uri, tmp_path)  # this process has looked already
    assert re.search(r"Misconfigured: .*Take a backup.*mlflow db upgrade", later.communicate()[1])


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of a fresh server on 127.0.0.1; skips where PostgreSQL is not installed."""
    binaries = [Path(found).resolve().parent for name in ("initdb", "postgres") if (found := shutil.which(name))]
    if len(binaries) < 2:
        pytest.skip("initdb and postgres are not on the PATH")
    home = Path(tempfile.mkdtemp(prefix="tidegate-postgres-"))
    who: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}  # it refuses to be root
    if who:
        shutil.chown(home, **who)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home}
    made = [binaries[0] / "initdb", "--pgdata", home / "data", "--username", "me", "--auth", "trust", "--no-sync"]
    subprocess.run(made, check=True, **quiet, **who)
    options = ["-D", home / "data", "-h", "127.0.0.1", "-p", str(port), "-k", home, "-F"]
    server = subprocess.Popen([binaries[1] / "postgres", *options], **quiet, **who)
    try:
        while server.poll() is None and not _answers(port):
            time.sleep(0.1)
        yield f"postgresql+psycopg2://me@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(home)


def _answers(port: int) -> bool:
    import psycopg2

    try:
        psycopg2.connect(host="127.0.0.1", port=port, user="me", dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def test_two_first_uses_at_once_of_postgresql_make_one(postgres: str, tmp_path: Path) -> None:
    """Both used to create the same tables, and one failed."""
    settings = at(postgres, tmp_path)
    runs = both(postgres, tmp_path)
    assert all(len(run.strip()) == 32 for run in runs), runs
    assert log(settings) in [run.strip() for run in runs]
