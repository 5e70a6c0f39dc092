"""A stack as a team runs it, on real servers: databases of its own, and Celery's workers, one of which is killed."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis

from infra.stack.airflow_api import Airflow, answers, warm
from infra.stack.components import TEAM, Layout, components, environment, migration, pools
from infra.stack.processes import MARK, Stack, StackError, records
from infra.stack.standing import session, stands
from infra.stack.supervisor import Supervisor
from infra.stack.team import OWNER, Redis, Team
from jobs import config
from jobs.places import S3Path
from tests.jobs.databases import POSTGRES
from tests.moto_server import serving

REDIS = os.environ.get("TIDEGATE_TEST_REDIS", "127.0.0.1:6379")
DAYS = ("2026-01-01", "2026-01-02")
DAG = f"""
from datetime import timedelta
from airflow.sdk import DAG
from jobs.orchestration.operator import StageOperator

with DAG("days", schedule=None):
    for day in {DAYS}:
        StageOperator(task_id=f"ingest_{{day}}", stage="ingest", day=day, retries=3, retry_delay=timedelta(seconds=1))
"""
PATIENCE_S = 600


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Of a stack in `tmp_path`, whose databases are gone when the test is over; skips where a server does not answer.

    Nobody has said anything of Airflow, whatever other tests of this process did.
    """
    for name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TIDEGATE_ENV", "test")
    monkeypatch.setenv("TIDEGATE__AIRFLOW__DATABASE", POSTGRES)
    monkeypatch.setenv("TIDEGATE__FEATURES__REDIS_URL", REDIS)
    try:
        found = stands(layout(tmp_path), {})
    except StackError as error:
        pytest.skip(f"{error} (or TIDEGATE_TEST_POSTGRES, TIDEGATE_TEST_REDIS)")
    own = team(tmp_path, found)
    yield found
    forget(own)


def layout(folder: Path) -> Layout:
    return Layout.at(folder, on=TEAM)


def team(folder: Path, settings: dict[str, str]) -> Team:
    return Team.of(folder, config.load(config.environment(settings)))


def forget(found: Team) -> None:
    """Leave nothing."""
    found.drop()
    with found.redis.asked() as client:
        client.delete(OWNER)


def names() -> set[str]:
    """Of every database there is."""
    with psycopg2.connect(POSTGRES) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        return {name for (name,) in cursor.fetchall()}


def test_databases_are_made_once_and_are_nobody_elses(settings: dict[str, str], tmp_path: Path) -> None:
    """Two checkouts on one laptop, or two stacks of one, must not take each other's tasks."""
    before, found = names(), team(tmp_path, settings)
    assert set(found.make()) == names() - before == set(found.databases)
    assert found.make() == []
    assert all(name.startswith("tidegate_") and len(name) <= 63 for name in found.databases)
    (tmp_path / "other").mkdir()
    other = team(tmp_path / "other", stands(layout(tmp_path / "other"), {}))
    try:
        assert not set(other.databases) & set(found.databases)
        assert other.redis.options["db"] not in ("0", found.redis.options["db"])
        assert stands(layout(tmp_path), {}) == settings, "the same one again"
    finally:
        forget(other)
    found.drop()
    assert names() == before


def test_a_database_of_redis_that_holds_anything_is_let_alone(settings: dict[str, str], tmp_path: Path) -> None:
    """Redis has no names: what is there may be a laptop's own, and a demo empties what is its."""
    found = team(tmp_path, settings)
    with found.redis.asked() as client:
        client.delete(OWNER)
        client.set("theirs", "1", ex=60)
    other = team(tmp_path, stands(layout(tmp_path), {}))
    try:
        assert other.redis.options["db"] != found.redis.options["db"]
        found.drop()  # by the mark it had
        with found.redis.asked() as client:
            assert client.get("theirs") == b"1"
            client.delete("theirs")
    finally:
        forget(other)


@pytest.mark.parametrize(
    ("variable", "address", "needed"),
    [
        ("AIRFLOW__DATABASE", "postgresql://127.0.0.1:1", r"needs PostgreSQL at 127\.0\.0\.1:1 .*refused"),
        ("AIRFLOW__DATABASE", "mysql://u:secret@h", r"must be postgresql://…; found mysql://…"),
        ("AIRFLOW__DATABASE", "h:5432", r"airflow\.database must be postgresql://"),
        ("FEATURES__REDIS_URL", "127.0.0.1:1", r"needs Redis at 127\.0\.0\.1:1 .*refused"),
        ("FEATURES__REDIS_URL", f"{REDIS},db=99", r"needs Redis at .*out of range"),
        ("FEATURES__REDIS_URL", "redis://h:1,password=secret", r"must be host:port\[,db=1\]"),
        ("FEATURES__REDIS_URL", "h,password=secret", r"must be host:port"),
    ],
)
def test_what_does_not_answer_is_named_and_nothing_is_started(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, address: str, needed: str
) -> None:
    """Not after a minute, by a scheduler's traceback; and no password is shown."""
    from infra.stack import __main__ as command

    monkeypatch.setattr(command, "VAR", tmp_path)
    monkeypatch.setenv(f"TIDEGATE__{variable}", address)
    with pytest.raises(StackError, match=needed) as said:
        command.main(["up", "--on", "team", "--name", "s"])
    assert "secret" not in str(said.value)
    assert not (tmp_path / "s" / "stack.json").exists()
    assert not (tmp_path / "s" / "logs").exists()


def test_one_redis_in_the_words_of_feast_and_of_celery() -> None:
    """A password may hold what an address may not."""
    assert Redis.of("h:6379").url == "redis://h:6379/0"
    assert Redis.of("h:6379").at(3).words == "h:6379,db=3"
    found = Redis.of("h:6379,password=a@b,username=u,ssl=true,db=2")
    assert found.url == "rediss://u:a%40b@h:6379/2"
    assert Redis.of("h:1,password=p").url == "redis://:p@h:1/0"
    assert redis.Redis.from_url(found.url).connection_pool.connection_kwargs["password"] == "a@b"


def test_no_command_line_carries_a_password(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody on a machine sees those; and what a team says of its Airflow stays."""
    monkeypatch.setenv("TIDEGATE__AIRFLOW__DATABASE", "postgresql://me:secret@db.example.com")
    monkeypatch.setenv("AIRFLOW__CELERY__BROKER_URL", "amqp://theirs")
    environ = environment(layout(tmp_path), settings)
    assert "me:secret@db.example.com" in environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert environ["AIRFLOW__CELERY__BROKER_URL"] == "amqp://theirs"
    found = components(layout(tmp_path), environ)
    assert not [component.name for component in found if "secret" in " ".join(component.argv)]
    own = {"airflow-scheduler-2", "airflow-worker-1", "airflow-worker-2"}
    assert own <= {component.name for component in found}
    laptop = Layout(tmp_path, "http://a:1", "http://b:2", "http://c:3")
    assert not own & {one.name for one in components(laptop, environment(laptop, {}))}, "and none on a laptop"


# -- on Airflow's own processes ---------------------------------------------------------------------------------------
def until(there: Callable[[], Any]) -> Any:
    """What it finds, as soon as it is there."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := there()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def stages(stack: Stack) -> dict[str, psutil.Process]:
    """By day, the process of each stage that runs."""
    found = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "--day" in words and process.environ().get(MARK) == stack.mark:
                found[words[words.index("--day") + 1]] = process
        except psutil.Error:
            continue
    return found


def worker(stack: Stack, process: psutil.Process) -> str:
    """The name of the worker above a process, as its supervisor has it."""
    services = {record.pid: record.name for record in records(stack.folder)}
    above = [services[parent.pid] for parent in process.parents() if parent.pid in services]
    return above[0] if above else ""


def states(airflow: Airflow) -> dict[str, tuple[str, int]]:
    """State and tries of each task by its day."""
    tasks = airflow.tasks("days", "run")
    return {task["task_id"].removeprefix("ingest_"): (task["state"], task["try_number"]) for task in tasks}


@pytest.mark.airflow
@pytest.mark.timeout(1800)
def test_a_stage_comes_back_when_its_worker_is_killed(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two schedulers, and logs on S3: `kill -9` of the worker of one of two days while both run."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "days.py").write_text(DAG)
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags"))
    monkeypatch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "15")
    monkeypatch.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL", "2")
    stack = Stack.claim(tmp_path / "s")
    found = team(stack.folder, stands(layout(stack.folder), {}))
    with serving() as moto:
        for name, value in moto.bucket("team").items():
            monkeypatch.setenv(name, value)
        logs = S3Path("team", "logs")
        own = settings | {"features.redis_url": found.redis.words, "airflow.logs": str(logs)}
        try:
            airflow = started(stack, own, found)
            airflow.trigger("days", {}, None, "run")
            running = until(lambda: len(now := stages(stack)) == len(DAYS) and now)
            for process in running.values():
                process.suspend()
            above = {day: worker(stack, process) for day, process in running.items()}
            assert set(above.values()) <= {"airflow-worker-1", "airflow-worker-2"}, "through Celery alone"
            lost = DAYS[0]
            [record] = [record for record in records(stack.folder) if record.name == above[lost]]
            psutil.Process(record.pid).kill()
            until(lambda: not running[lost].is_running())
            for day in DAYS:
                if above[day] != above[lost]:
                    running[day].resume()
            until(lambda: {state for state, _ in states(airflow).values()} == {"success"})
            tries = {day: tries for day, (_, tries) in states(airflow).items()}
            assert all(tries[day] >= 2 for day in DAYS if above[day] == above[lost])
            slots = {pool["name"]: pool["slots"] for pool in airflow.get("/pools")["pools"]}
            assert (slots["training"], slots["spark"]) == (1, 2)
            for day in DAYS:
                own_log = logs / f"dag_id=days/run_id=run/task_id=ingest_{day}/attempt={tries[day]}.log"
                until(own_log.is_file)  # put when all is over
                assert f"jobs ingest --day {day}" in own_log.read_text()
        finally:
            ended = stack.end()
            forget(found)
    assert ended >= 6
    assert not [process for process in stack.tree() if process.pid != os.getpid()]


def started(stack: Stack, settings: dict[str, str], found: Team) -> Airflow:
    """Airflow of a team as far as this needs it, when it has read the DAG; a session of its engineer."""
    at = layout(stack.folder)
    environ = environment(at, settings)
    found.make()
    stack.run(migration(environ), PATIENCE_S)
    named = pools(at, environ)
    assert named is not None
    stack.run(named, PATIENCE_S)
    needed = ("api", "scheduler", "scheduler-2", "dag-processor", "worker-1", "worker-2")
    services = [one for one in components(at, environ) if one.name.removeprefix("airflow-") in needed]
    assert len(services) == len(needed)
    stack.start(Supervisor(stack.folder, stack.mark).component(services, [], environ))
    until(lambda: answers(f"{at.airflow}/api/v2/version"))
    airflow = session(at.airflow, environ)
    assert airflow is not None
    until(lambda: [one for one in airflow.get("/dags")["dags"] if one["dag_id"] == "days"])
    until(services[-1].healthy)
    warm(at.airflow)
    return airflow
