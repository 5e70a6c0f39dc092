"""Who may log in to a stack's Airflow: an engineer, approvers and a viewer, or whom a team's own settings name.

The accounts are those of Airflow's simple auth manager; their passwords lie in a file that only its owner can read. A
team with an auth manager of its own keeps its people there, and the launcher has no account.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs import config

ENGINEER, APPROVER, VIEWER = "engineer", "approver", "viewer"
ROLES = {ENGINEER: "op", APPROVER: "user", VIEWER: "viewer"}
"""Of the simple auth manager: `op` starts and clears runs, `user` too but reads no connection, `viewer` only looks."""
DRIVERS = ("admin", "op", "user")
"""Roles that may start a run, the mightiest first."""
MANAGER = "AIRFLOW__CORE__AUTH_MANAGER"
SIMPLE = "SimpleAuthManager"
USERS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"
PASSWORDS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"
EVERYBODY = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"
APPROVERS = "release.approvers"


@dataclass(frozen=True)
class Account:
    """Somebody who can log in."""

    name: str
    role: str
    password: str


def own(environ: Mapping[str, str]) -> bool:
    """Whether the team says itself who its people are: by users, or by an auth manager, of its own."""
    return bool({MANAGER, USERS, EVERYBODY} & set(environ))


def approvers(overrides: Mapping[str, str], environ: Mapping[str, str], otherwise: str) -> dict[str, str]:
    """The setting of who may answer where nobody is named: `otherwise`; a team's own people it leaves as they are."""
    if own(environ) or config.load(config.environment(dict(overrides))).release.approvers:
        return {}
    return {APPROVERS: json.dumps([otherwise])}


def everybody(environ: Mapping[str, str]) -> bool:
    """Whether whoever comes is an admin."""
    return environ.get(EVERYBODY, "").lower() in ("true", "t", "1")


def users(names: Sequence[str]) -> str:
    """The simple auth manager's setting: engineer and viewer, and these approvers."""
    roles = {**dict.fromkeys(names, ROLES[APPROVER]), ENGINEER: ROLES[ENGINEER], VIEWER: ROLES[VIEWER]}
    return ",".join(f"{name}:{role}" for name, role in roles.items())


def accounts(environ: Mapping[str, str]) -> list[Account]:
    """Everybody of the simple auth manager, with the password that is kept or now made; nobody of another manager."""
    if everybody(environ) or not environ.get(MANAGER, SIMPLE).endswith(SIMPLE):
        return []
    named = [entry.strip().split(":") for entry in environ[USERS].split(",") if entry.strip()]
    file = Path(environ[PASSWORDS])
    kept = json.loads(file.read_text()) if file.is_file() and file.stat().st_size else {}
    missing = {name: secrets.token_urlsafe(9) for name, *_ in named if name not in kept}
    if missing:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(json.dumps(kept | missing) + "\n")
    return [Account(name, role, (kept | missing)[name]) for name, role, *_ in named]


def driver(found: Sequence[Account]) -> Account | None:
    """Whose session the launcher uses to start runs: of the mightiest role; None where nobody may."""
    able = [account for account in found if account.role.lower() in DRIVERS]
    return min(able, key=lambda account: DRIVERS.index(account.role.lower()), default=None)
