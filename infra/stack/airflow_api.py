"""Airflow's REST API, as far as the launcher needs it."""

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import httpx

from infra.stack.processes import StackError

DAGS = ("daily_data", "weekly_training", "daily_warm_start", "promotion", "daily_monitoring")
ALIVE = ("metadatabase", "scheduler", "dag_processor", "triggerer")
TOKEN_SECONDS = 1800.0


def loopback(timeout_s: float, base_url: str = "") -> httpx.Client:
    """A client for this machine only: no proxy of the environment, and no certificates to load for each."""
    return httpx.Client(base_url=base_url, timeout=timeout_s, trust_env=False, verify=False)


_probe = loopback(5)


def is_healthy(url: str) -> bool:
    """Whether the API answers and every component behind it has sent a heartbeat."""
    try:
        report = _probe.get(f"{url}/api/v2/monitor/health").json()
    except (httpx.HTTPError, ValueError):
        return False
    return all((report.get(part) or {}).get("status") == "healthy" for part in ALIVE)


def answers(url: str) -> bool:
    """Whether something answers there, whatever it says, as long as it is no fault of its own."""
    try:
        return _probe.get(url).status_code < httpx.codes.INTERNAL_SERVER_ERROR
    except httpx.HTTPError:
        return False


def ready(url: str) -> bool:
    """Whether something there says that all is well."""
    try:
        return _probe.get(url).is_success
    except httpx.HTTPError:
        return False


@cache
def warm(url: str) -> bool:
    """Make the API build what tasks talk to, which takes it seconds, now rather than inside the first task."""
    with suppress(httpx.HTTPError):
        _probe.get(f"{url}/execution/health/ping", timeout=60)
    return True


class Airflow:
    """A session of a named user; every method raises `StackError` when Airflow refuses."""

    def __init__(self, url: str, user: str, password: str | None) -> None:
        """Without a password Airflow gives whoever asks a session, where `simple_auth_manager_all_admins` says so."""
        self.url = url
        self.user = user
        self._password = password
        self._token_at = -TOKEN_SECONDS
        self._http = loopback(60, f"{url}/api/v2")

    def wait_for_dags(self, timeout_s: float) -> None:
        """Return once every DAG is parsed; raises `StackError` with the import error otherwise."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = {d["dag_id"] for d in self.get("/dags", limit=100)["dags"]}
            if found.issuperset(DAGS):
                return
            errors = self.get("/importErrors")["import_errors"]
            if errors:
                raise StackError(f"every DAG must import; {errors[0]['filename']}: {errors[0]['stack_trace']}")
            if time.monotonic() > deadline:
                raise StackError(f"the DAGs {', '.join(DAGS)} must be parsed in {timeout_s:.0f} s; found {found}")
            time.sleep(0.5)

    def trigger(self, dag: str, conf: Mapping[str, Any], partition_key: str | None, run_id: str) -> str:
        """Start a run; returns its id."""
        body = {"logical_date": None, "conf": dict(conf), "partition_key": partition_key, "dag_run_id": run_id}
        return str(self._call("POST", f"/dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag: str, run_id: str) -> dict[str, Any]:
        """One run."""
        return self.get(f"/dags/{dag}/dagRuns/{run_id}")

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """All runs of a DAG."""
        return list(self.get(f"/dags/{dag}/dagRuns", limit=100)["dag_runs"])

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        return list(self.get(f"/dags/{dag}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def report(self, dag: str, run_id: str, task: str) -> dict[str, Any]:
        """What a stage reported: its XCom; empty where it left none."""
        path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/return_value"
        value = self._call("GET", path, missing={}, params={"deserialize": "true"}).get("value")
        return value if isinstance(value, dict) else {}

    def answer(self, dag: str, run_id: str, task: str, choice: str, note: str) -> None:
        """Answer an approval as this user."""
        path = f"/dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/-1/hitlDetails"
        self._call("PATCH", path, json={"chosen_options": [choice], "params_input": {"note": note}})

    def questions(self) -> list[str]:
        """What waits for somebody's answer: the subject of each."""
        found = self.get("/dags/~/dagRuns/~/hitlDetails", response_received=False, state="awaiting_input")
        return [str(one["subject"]) for one in found["hitl_details"]]

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """A GET's JSON."""
        return self._call("GET", path, params=params)

    def _call(self, method: str, path: str, missing: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
        if time.monotonic() - self._token_at > TOKEN_SECONDS:
            self._log_in()
        try:
            answer = self._http.request(method, path, **kwargs)
        except httpx.HTTPError as error:
            raise StackError(f"Airflow must answer {method} {path}; found {type(error).__name__}: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND and missing is not None:
            return missing
        if answer.is_error:
            raise StackError(f"Airflow must accept {method} {path}; found {answer.status_code}: {answer.text[:500]}")
        return dict(answer.json())

    def _log_in(self) -> None:
        if self._password is None:
            answer = _probe.get(f"{self.url}/auth/token", timeout=60)
        else:
            body = {"username": self.user, "password": self._password}
            answer = _probe.post(f"{self.url}/auth/token", json=body, timeout=60)
        if answer.is_error:
            raise StackError(f"Airflow must log {self.user} in; found {answer.status_code}: {answer.text[:300]}")
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        self._token_at = time.monotonic()
