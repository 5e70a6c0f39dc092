"""A way back that a person takes is told in Slack, once, by the command that takes it; without Slack it is the same."""

import json
from pathlib import Path

import pytest

from jobs.config import Config
from jobs.lake.run import Approval
from tests.jobs.deploy.deploy_world import NEXT, Forked, champions, deployed, serving
from tests.slack_receiver import Receiver

pytestmark = pytest.mark.airflow


def slack(folder: Path, port: int) -> dict[str, str]:
    """What a deployment's environment says of its Airflow and of Slack."""
    connection = {"conn_type": "slackwebhook", "password": f"http://127.0.0.1:{port}/services/SECRET"}
    home = {"AIRFLOW_HOME": str(folder / "airflow"), "AIRFLOW__API__BASE_URL": "http://airflow/"}
    return {**home, "AIRFLOW_CONN_SLACK": json.dumps(connection)}


def test_it_says_who_went_back_why_and_what_serves_and_only_once(
    world: Config, forked: Forked, receiver: Receiver, tmp_path: Path
) -> None:
    """Typed twice in a hurry it is one message; the report stays the last line of stdout."""
    to_slack = slack(tmp_path, receiver.server_port)
    with serving(world) as tree:
        deployed(tree)
        deployed(tree, NEXT)
        second = champions(tree)[0]
        said = Approval("bob", "clicks fell on <home>")
        assert forked(tree, "rollback", NEXT, said, **to_slack) == 0
        first = champions(tree)[0]
        log = (tree.lake.root.parent / "stage.log").read_text().splitlines()
        assert log[-1] == "Slack was told"
        assert forked(tree, "rollback", NEXT, said, **to_slack) == 0
    [message] = receiver.got
    assert message["text"] == (
        f":leftwards_arrow_with_hook: rollback: {second} was rolled back by bob: clicks fell on &lt;home&gt;; "
        f"{first} serves again\n<http://airflow/dags/promotion/runs?run_id_pattern=full-{NEXT}|promotion>"
    )


def test_slack_that_does_not_answer_keeps_nobody_from_going_back(world: Config, forked: Forked, tmp_path: Path) -> None:
    """Who went back learns that nobody was told; where no Airflow is known of there is nothing to say."""
    with serving(world) as tree:
        deployed(tree)
        first = champions(tree)[0]
        for told, variables in (("Slack was not told: it was not delivered: URLError", slack(tmp_path, 1)), ("", {})):
            deployed(tree, NEXT)
            assert champions(tree)[0] != first
            assert forked(tree, "rollback", NEXT, Approval("bob"), **variables) == 0
            assert champions(tree) == (first,) * 3
            log = (tree.lake.root.parent / "stage.log").read_text()
            assert ("Slack" in log) == bool(told)
            assert told in log.splitlines()[-1]
            assert "SECRET" not in log
