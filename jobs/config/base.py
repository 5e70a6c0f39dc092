"""Where the repository lies, and what a setting can change: what every group of settings stands on."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pydantic import PlainSerializer

from jobs.flow import STAGES

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "TIDEGATE__"


@dataclass(frozen=True)
class Changes:
    """Which rows a setting can change: those of `first`, a stage, and of every stage to its right; None: no row.

    Said of a group for all in it, or of one field. `only`: the stages to the right do not read what it changes.
    """

    first: str | None
    only: bool = False

    def reaches(self, stage: str) -> bool:
        """Whether a row that `stage` writes can depend on the setting."""
        if self.first is None or self.only:
            return self.first == stage
        order = list(STAGES)
        return order.index(self.first) <= order.index(stage)


NO_ROW = Changes(None)
"""Of an address, a path, a limit on time or memory, a name of something outside the lake."""
PASSWORD = re.compile(r"(?<=://)([^/@:]*:)([^@]+)(?=@)|(password=)([^,&]+)")
"""In an address with a user, and in one of Redis as Feast has it."""


def without_password(address: str, *, said: str | None = None) -> str:
    """An address as logs, reports and `python -m jobs config` show it; or what a driver `said` of it, in which its
    password may stand alone.
    """
    if said is None:
        return PASSWORD.sub(lambda found: f"{found[1] or found[3]}***", address)
    for found in PASSWORD.finditer(address):
        password = found[2] or found[4]
        for written in (password, unquote(password)):
            said = said.replace(written, "***")
    return said


ADDRESS = PlainSerializer(without_password, when_used="json")
"""Of a setting that is one, and may hold a password."""
