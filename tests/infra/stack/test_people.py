"""Who may log in, and that what a team says of its Airflow stays as it is."""

import json
import os
from pathlib import Path

import pytest

from infra.stack import people
from infra.stack.components import Layout, environment, pools, unsaid
from infra.stack.standing import session

ADDRESS = "http://127.0.0.1:1"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Where nobody has said anything of Airflow, whatever other tests of this process did."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
        monkeypatch.delenv(name)
    return Layout(tmp_path, ADDRESS, "http://127.0.0.1:2", "http://127.0.0.1:3")


def test_an_engineer_an_approver_and_a_viewer_can_log_in(layout: Layout) -> None:
    """Each with a password of their own that only the owner of the file reads; it is the same the next time."""
    environ = environment(layout, people.approvers(layout.settings(), {}, people.APPROVER))
    assert json.loads(environ["TIDEGATE__RELEASE__APPROVERS"]) == ["approver"]
    found = people.accounts(environ)
    assert {one.name: one.role for one in found} == {"engineer": "op", "approver": "user", "viewer": "viewer"}
    assert len({one.password for one in found}) == 3
    file = Path(environ[people.PASSWORDS])
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(json.dumps({"approver": "kept"}))
    again = {one.name: one.password for one in people.accounts(environ)}
    assert again["approver"] == "kept"
    assert json.loads(file.read_text()) == again
    starts = people.driver(people.accounts(environ))
    assert starts is not None
    assert starts.name == "engineer"


def test_approvers_are_who_the_settings_name(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the id by which the auth manager knows them, where that is another; an engineer who approves stays one."""
    monkeypatch.setenv("TIDEGATE__RELEASE__APPROVERS", '["anna", "bob:7", "engineer"]')
    assert people.approvers(layout.settings(), {}, people.APPROVER) == {}
    roles = {one.name: one.role for one in people.accounts(environment(layout, {}))}
    assert roles == {"anna": "user", "bob": "user", "engineer": "op", "viewer": "viewer"}


def test_what_a_team_says_of_its_airflow_is_not_overwritten(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Auth manager, executor, port, and a database whose address a command tells; the rest is ours."""
    said = {
        people.MANAGER: "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD": "cat secret",
        "AIRFLOW__API__PORT": "8080",
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    environ = environment(layout, {})
    assert {name: environ[name] for name in said} == said
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in environ
    assert environ["AIRFLOW__API__DEFAULT_WRAP"] == "True"
    assert people.approvers(layout.settings(), environ, people.APPROVER) == {}
    assert people.accounts(environ) == [], "its people are not ours"
    assert session(ADDRESS, environ) is None
    assert Layout.at(layout.folder).airflow == "http://127.0.0.1:8080"
    assert unsaid({"A": "ours", "B": "ours"}, {"A_SECRET": "theirs"}) == {"B": "ours"}


def test_a_teams_own_users_of_the_simple_auth_manager_stay(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher takes the mightiest of them to start runs; where everybody is an admin it needs no name."""
    monkeypatch.setenv(people.USERS, "carol:viewer, dave:user,erin:admin")
    environ = environment(layout, {})
    assert [one.name for one in people.accounts(environ)] == ["carol", "dave", "erin"]
    starts = session(ADDRESS, environ)
    assert starts is not None
    assert starts.user == "erin"
    assert session(ADDRESS, {**environ, people.USERS: "carol:viewer"}) is None
    monkeypatch.setenv(people.EVERYBODY, "True")
    everybody = session(ADDRESS, environment(layout, {}))
    assert everybody is not None
    assert everybody.user == ""


def test_the_pools_that_settings_name_are_made_before_a_dag_is_read(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a laptop too; where none is named Airflow is not asked."""
    assert pools(layout, environment(layout, {})) is None
    monkeypatch.setenv("TIDEGATE__AIRFLOW__POOLS", '{"training": 3}')
    made = pools(layout, environment(layout, {}))
    assert made is not None
    assert made.argv[-3:-1] == ["pools", "import"]
    told = {"slots": 3, "description": "train, backtest", "include_deferred": False}
    assert json.loads(Path(made.argv[-1]).read_text()) == {"training": told}


def test_logs_go_to_s3_by_one_setting(layout: Layout) -> None:
    """Airflow finds where by a setting of its own."""
    name = "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS"
    assert name not in environment(layout, {})
    assert environment(layout, {"airflow.logs": "s3://team/logs"})[name] == "jobs.orchestration.logs.LOGGING"
