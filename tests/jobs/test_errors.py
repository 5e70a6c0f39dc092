"""How a command ends: every error is of one kind, told in one last line; its exit code says whether to try again."""

import errno
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import errors
from jobs.config import ROOT
from jobs.errors import KINDS, Crashed, Misconfigured, NotReady, Refused, TidegateError, kind_of, of_the_disk, told


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """A command of its own whose `main` is this body."""
    script = f"from jobs.errors import *\ndef main(argv):\n    {code}\nrun_as_command(main)"
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("code", "status", "line"),
    [
        ("return 0", 0, None),
        (
            "raise Refused('rows need an id;\\n  found:\\t12 without')",
            65,
            "Refused: rows need an id; found: 12 without",
        ),
        ("raise KeyError('day')", 70, "Crashed: a bug in Tidegate, not in your data: KeyError: 'day'"),
        ("raise ValueError", 70, "Crashed: a bug in Tidegate, not in your data: ValueError"),
        ("raise Refused('\\x1b[31mred\\x1b[0m')", 65, "Refused: red"),
        ("raise ValueError('one\\ntwo')", 70, "Crashed: a bug in Tidegate, not in your data: ValueError: one two"),
        ("raise ValueError('\\ud800')", 70, "Crashed: a bug in Tidegate, not in your data: ValueError"),
        ("raise OSError(30, 'Read-only file system')", 78, None),
    ],
)
def test_a_command_ends_with_its_errors_code_and_one_line(code: str, status: int, line: str | None) -> None:
    """Only a crash shows a traceback, and above the line: who is told the last line is told what matters."""
    found = ended(code)
    assert found.returncode == status, found.stderr
    last = (found.stderr.splitlines() or [""])[-1]
    assert line is None or last == line
    assert ("Traceback" in found.stderr) == (status == 70)


@given(st.text(max_size=200), st.sampled_from(KINDS))
def test_the_last_line_is_one_line_whatever_it_says(text: str, kind: type[TidegateError]) -> None:
    """Line breaks of all sorts, control characters and lone surrogates come from data and from libraries."""
    line = told(kind(text))
    assert line.splitlines() == [line]
    assert line.isprintable()
    assert line.startswith(f"{kind.__name__}: ")
    assert len(line) < 2_100


def test_the_table_of_kinds_is_the_kinds() -> None:
    """The module's own table, which the orchestrator's tests and the README follow."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", errors.__doc__ or "", flags=re.M))
    assert rows == {kind.__name__: str(kind.exit_code) for kind in KINDS}
    defined = {kind for kind in TidegateError.__subclasses__() if kind.__module__ == errors.__name__}
    assert set(KINDS) == defined, "a kind of `jobs.errors` that the orchestrator does not know"


def wrapped(error: Exception) -> RuntimeError:
    """As a library passes it on, its own words around nothing."""
    try:
        raise RuntimeError("could not commit") from error
    except RuntimeError as found:
        return found


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NotReady),
        (errno.EDQUOT, NotReady),
        (errno.EIO, NotReady),
        (errno.ESTALE, NotReady),
        (errno.ENOTCONN, NotReady),
        (errno.EACCES, Misconfigured),
        (errno.EPERM, Misconfigured),
        (errno.EROFS, Misconfigured),
        (errno.ENOTDIR, Misconfigured),
        (errno.ENAMETOOLONG, Misconfigured),
        (errno.ELOOP, Misconfigured),
        (errno.ENOENT, Crashed),
        (errno.EBADF, Crashed),
    ],
)
def test_what_a_disk_says_has_one_kind_whoever_passes_it_on(number: int, kind: type[TidegateError]) -> None:
    """As Python's own error, as the text of another, and as the cause of one that says something else."""
    system = OSError(number, os.strerror(number), "/lake/labels")
    rust = f"Generic LocalFileSystem error\n ↳ {os.strerror(number)} (os error {number})"
    for error in (system, RuntimeError(f"java.io.IOException: {os.strerror(number)}"), OSError(rust), wrapped(system)):
        assert type(kind_of(error)) is kind, repr(error)


def test_an_error_that_was_expected_says_nothing_of_a_later_one() -> None:
    """A bug in the handling of a closed folder is a bug, not a wrong setting."""
    with pytest.raises(KeyError) as bug:  # noqa: PT012 - one error while another is handled
        try:
            raise PermissionError(errno.EACCES, "Permission denied")
        except PermissionError:
            {}["day"]
    assert isinstance(bug.value.__context__, PermissionError)
    assert of_the_disk(bug.value) is None


def test_what_sqlite_says_of_its_disk(tmp_path: Path) -> None:
    """SQLite has words of its own; its real ones, for a folder that is not there and a page that is not there."""
    with pytest.raises(sqlite3.OperationalError) as missing:
        sqlite3.connect(tmp_path / "no" / "such.db").execute("select 1")
    assert type(of_the_disk(missing.value)) is Misconfigured
    small = sqlite3.connect(tmp_path / "small.db")
    small.execute("pragma max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as full:
        small.executescript("create table a (x); create table b (x); create table c (x)")
    assert type(of_the_disk(full.value)) is NotReady


def test_a_file_in_a_folders_place_is_a_setting(tmp_path: Path) -> None:
    """`lake.root` that names a file: no retry makes it a folder."""
    (tmp_path / "lake").write_text("")
    with pytest.raises(FileExistsError) as found:
        (tmp_path / "lake").mkdir(exist_ok=True)
    assert type(kind_of(found.value)) is Misconfigured
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileExistsError) as raced:
        (tmp_path / "folder").mkdir()
    assert type(kind_of(raced.value)) is Crashed


def test_memory_is_no_bug_and_no_waiting() -> None:
    """A crash: three tries, since another process may have had it; but nobody should look for a bug."""
    found = kind_of(MemoryError("malloc of size 9 failed"))
    assert isinstance(found, Crashed)
    assert "a stage needs more memory than it got; found MemoryError: malloc of size 9 failed" in str(found)


def test_another_python_than_that_of_the_environment_is_no_bug() -> None:
    """Whoever types `python -m jobs` outside of it is told what to type; a module of ours that is missing is a bug."""
    assert "make setup" in str(kind_of(ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")))
    assert type(kind_of(ModuleNotFoundError("No module named 'jobs.no'", name="jobs.no"))) is Crashed


def test_a_kind_stays_what_it_is() -> None:
    """A refusal that quotes the system is a refusal."""
    refused: Any = Refused("a file needs to be readable; found: Permission denied")
    assert kind_of(refused) is refused
