"""How a command ends: five kinds of failure told apart by exit code, so that the caller need not read text.

| kind | exit code (sysexits) | what the orchestrator does |
| --- | --- | --- |
| `UsageError` | 64 | fails at once: the command itself is wrong |
| `Refused` | 65 | fails at once, nothing is published, yesterday stays: the data is wrong and a retry cannot help |
| `Crashed` | 70 | tries three times, a minute apart: a bug, or too little memory; the traceback is on stderr |
| `NotReady` | 75 | tries later, for two hours: something has not come yet, another writer won, a disk is full or gone |
| `Misconfigured` | 78 | fails at once: a setting is wrong, a folder it names may not be written to |

A process ended by a signal (killed for memory, a worker shut down) has no kind and is treated as a crash.
The last line on stderr is `<kind>: <what was needed and what was found>`, always one line (`run_as_command`).
"""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

EXIT_OK = 0


class TidegateError(Exception):
    """A failure with a meaning; `exit_code` is what the process ends with."""

    exit_code = 70


class UsageError(TidegateError):
    """The command line asks for something that does not exist."""

    exit_code = 64


class Refused(TidegateError):
    """The data was looked at and refused; the last good version stays published."""

    exit_code = 65


class Crashed(TidegateError):
    """What no other kind covers; only `kind_of` makes one, of an error nobody expected."""


class NotReady(TidegateError):
    """An input has not arrived, or a concurrent writer committed first; trying again later may work."""

    exit_code = 75


class Misconfigured(TidegateError):
    """A setting is unknown, missing or contradicts another."""

    exit_code = 78


KINDS = (UsageError, Refused, Crashed, NotReady, Misconfigured)


def if_never(day: object) -> str:
    """The end of a sentence about a day that is missing: what to do where its events will never come."""
    return f"; if it never comes: python -m jobs lose --day {day} --why '...'"


def _said(*numbers: int) -> tuple[str, ...]:
    """The system's words for these error numbers: Arrow, delta-rs and a JVM pass them on and drop the number."""
    return tuple(os.strerror(number) for number in numbers)


FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_SAID = (*_said(*FULL), "database or disk is full")
GONE = (errno.EIO, errno.ESTALE, errno.ENOTCONN)
"""A network folder that went away, a mount that hangs, a dying disk."""
GONE_SAID = (*_said(*GONE), "disk I/O error")
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
CLOSED_SAID = (
    *_said(*CLOSED),
    "attempt to write a readonly database",
    "unable to open database file",
    "AccessDeniedException",  # a JVM's, which says nothing else
    "Mkdirs failed to create",  # Hadoop's
)
NO_FOLDER = (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
NO_FOLDER_SAID = _said(*NO_FOLDER)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Of a terminal; delta-rs puts it into what it says of a disk."""
WHOLE = "what was published stays whole, and running the stage again completes it"


def of_the_disk(error: BaseException) -> NotReady | Misconfigured | None:
    """`NotReady` where a disk is full or gone, `Misconfigured` where a setting names a folder that is closed or none.

    None for anything else, a file that is not there among it: that is a bug, or a reader overtaken by `vacuum`.
    Judged by the error, and by the one a library raised it from.
    """
    found = one_line(error)

    def says(numbers: tuple[int, ...], texts: tuple[str, ...]) -> bool:
        return any(
            (isinstance(e, OSError) and e.errno in numbers) or any(text in str(e) for text in texts)
            for e in causes(error)
        )

    if says(FULL, FULL_SAID):
        return NotReady(f"a stage needs free space on the disks it writes to; found: {found}; {WHOLE}")
    if says(GONE, GONE_SAID):
        return NotReady(f"a stage needs the disks of its folders to answer; found: {found}; {WHOLE}")
    if says(CLOSED, CLOSED_SAID):
        return Misconfigured(f"a stage needs to write to the folders its settings name; found: {found}; {WHOLE}")
    if says(NO_FOLDER, NO_FOLDER_SAID) or any(map(_is_in_the_way, causes(error))):
        return Misconfigured(f"settings must name folders; found: {found}; {WHOLE}")
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from; not what was being handled when it happened, which had been expected."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _is_in_the_way(error: BaseException) -> bool:
    """Whether a folder could not be made because something else has its name."""
    return isinstance(error, FileExistsError) and bool(error.filename) and not Path(error.filename).is_dir()


def kind_of(error: Exception) -> TidegateError:
    """The failure with a meaning that an error is: itself, of the disk, or `Crashed`."""
    if isinstance(error, TidegateError):
        return error
    known = of_the_disk(error)
    if known is not None:
        return known
    found = f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith(("jobs", "models", "infra")):
        return Misconfigured(f"needs the environment that `make setup` makes: . .venv/bin/activate; found {found}")
    if isinstance(error, MemoryError):
        return Crashed(f"a stage needs more memory than it got; found {found}; {WHOLE}")
    return Crashed(f"a bug in Tidegate, not in your data: {found}")


def one_line(said: object, most: int = 2_000) -> str:
    """A text, or what an error says, folded: no line break, colour or control character; at most `most` characters."""
    plain = COLOUR.sub("", str(said))
    text = " ".join("".join(c if c.isprintable() else " " for c in plain).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def told(error: TidegateError) -> str:
    """`<kind>: <one line>`, the last line on stderr."""
    return f"{type(error).__name__}: {one_line(error)}"


def run_as_command(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """End the process with the exit code of `main(sys.argv[1:])` or of its error, told in one last line on stderr.

    For a `__main__` only: here everything is caught. A traceback comes above the line where it was a crash.
    """
    try:
        code = main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - the one place where a bug becomes an exit code
        kind = kind_of(error)
        code = kind.exit_code
        if isinstance(kind, Crashed):
            traceback.print_exc()
        sys.stdout.flush()
        print(told(kind), file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whoever read it has gone
            stream.flush()
    # Arrow and JVM threads may still be winding down; the work is committed, so do not let them change the verdict.
    os._exit(code)
