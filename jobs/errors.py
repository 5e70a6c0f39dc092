"""Three kinds of failure, told apart by exit code, so that the caller knows what to do without reading text.

| kind | exit code (sysexits) | what the orchestrator does |
| --- | --- | --- |
| `UsageError` | 64 | fail: the command itself is wrong |
| `Refused` | 65 | fail at once, publish nothing, keep yesterday, alert: the data is wrong and a retry cannot help |
| `NotReady` | 75 | retry later: something that should come has not come yet, or another writer won |
| `Misconfigured` | 78 | fail at once: a setting is wrong |

Every message says what was needed and what was found.
"""

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


class NotReady(TidegateError):
    """An input has not arrived, or a concurrent writer committed first; trying again later may work."""

    exit_code = 75


class Misconfigured(TidegateError):
    """A setting is unknown, missing or contradicts another."""

    exit_code = 78


FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
CLOSED = ("Read-only file system", "Permission denied", "attempt to write a readonly database")


def of_the_disk(error: BaseException) -> TidegateError | None:
    """`NotReady` where a disk is full, `Misconfigured` where a folder may not be written to; None for anything else.

    Read from the text, because Arrow, delta-rs, SQLite and a JVM each wrap the system's error in one of their own.
    """
    text = str(error)
    found = " ".join(text.split())[:300]
    whole = "what was published stays whole, and running the stage again completes it"
    if any(sentence in text for sentence in FULL):
        return NotReady(f"a stage needs free space on the disks it writes to; found: {found}; {whole}")
    if any(sentence in text for sentence in CLOSED):
        return Misconfigured(f"a stage needs to write to the folders its settings name; found: {found}; {whole}")
    return None
