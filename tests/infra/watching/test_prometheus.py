"""A real Prometheus, started as `make up` starts it, scrapes a real endpoint and the exporter.

Every panel has an answer and every rule an evaluation.

No Grafana is here: that the JSON is what Grafana's own schema says is what its SDK's types hold.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from infra.dashboards.__main__ import FOLDER as BOARDS
from infra.dashboards.__main__ import rendered
from infra.stack.processes import Stack, free_ports
from infra.stack.status import services
from infra.stack.watching import FOLDER, pointed, watchers
from jobs.config import ROOT
from jobs.flow import STAGES
from tests.infra.endpoint.rig import IDS, Client, running, write_bundle
from tests.infra.endpoint.rig import settings as of_endpoint
from tests.infra.watching.small_watched import environ, fill

here = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs the prometheus of Debian's package")
INJECTED = """
# TYPE tidegate_features_age_seconds gauge
tidegate_features_age_seconds{bundle="never"} NaN
# TYPE tidegate_run_started_timestamp_seconds gauge
tidegate_run_started_timestamp_seconds{stage="train",mode="warm"} 1000
"""
"""A bundle without features, for promtool's tests cannot say NaN; and a run of long ago without an end."""
PENDING = {
    *("FeaturesUnknown", "StageFailed", "StageWaits", "StageHangs", "TableStale", "TableMissing", "TableUnreadable"),
    *("IncidentOpen", "PersonWaited", "FeaturesOld"),
}
"""What the small lake is full of; `for` has not passed when the tests look."""
Ask = Callable[[str], list[dict[str, Any]]]


def panels() -> dict[str, list[str]]:
    """The expressions of each panel, by dashboard and title, from the committed files."""
    found = {}
    for path in sorted(BOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                found[f"{path.stem}: {panel['title']}"] = [target["expr"] for target in panel["targets"]]
    return found


def rules() -> list[dict[str, Any]]:
    """Every rule."""
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, httpx.Client]]:
    """Prometheus and the exporter as processes of a stack, an endpoint that has answered, and two scrapes of each."""
    root = tmp_path_factory.mktemp("stack")
    settings = fill(root)
    (settings.lake.runs / "never-day.prom").write_text(INJECTED.lstrip())
    (settings.lake.root / "looks" / "_delta_log").mkdir(parents=True)
    (settings.lake.root / "looks" / "_delta_log" / f"{0:020}.json").write_text("")
    stack = Stack.claim(root / "up")
    judged = write_bundle(root / "bundles", "popularity")
    with running(of_endpoint(root)) as client:
        client.serve(judged)
        ports = free_ports(2)
        urls = {
            "endpoint": client.url,
            **dict(zip(("exporter", "prometheus"), (f"http://127.0.0.1:{p}" for p in ports), strict=True)),
        }
        stack.facts = {"urls": urls}
        components = watchers(stack.folder, urls, environ(root, PYTHONPATH=str(ROOT)))
        often(stack.folder / "prometheus" / "prometheus.yml")
        try:
            for component in components:
                stack.start(component)
            stack.wait_healthy(components, 60)
            with httpx.Client(base_url=f"{urls['prometheus']}/api/v1", trust_env=False, timeout=20) as http:
                until_scraped(http, client)
                yield stack, http
        finally:
            stack.end()


def often(path: Path) -> None:
    """As `make up` writes it, but every second: a test has no half minute."""
    found = yaml.safe_load(path.read_text())
    found["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in found["scrape_configs"]:
        job.pop("scrape_interval", None)
        job.pop("scrape_timeout", None)
    path.write_text(yaml.safe_dump(found))


def until_scraped(http: httpx.Client, client: Client) -> None:
    """Requests are answered until both were scraped thrice and the rules were evaluated after that."""
    deadline = time.monotonic() + 60
    for n in range(10_000):
        client.invoke(f"r{n}", candidates=IDS[:9]) if n % 2 else client.invoke(f"r{n}")
        asked = "min(count_over_time(up[1m])) >= 4 and on () tidegate:slow:ratio_rate5m"
        found = http.get("query", params={"query": asked}).json()["data"]["result"]
        if found:
            return
        assert time.monotonic() < deadline, http.get("targets").text[:2000]
        time.sleep(0.2)


@pytest.fixture(scope="module")
def ask(watched: tuple[Stack, httpx.Client]) -> Ask:
    """The samples of an instant query; a query that Prometheus refuses fails the test."""

    def asked(expr: str) -> list[dict[str, Any]]:
        answer = watched[1].get("query", params={"query": expr.replace("$__rate_interval", "1m")}).json()
        assert answer["status"] == "success", (expr, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    return asked


@here
@pytest.mark.parametrize("panel", panels())
def test_every_query_of_every_panel_has_an_answer(ask: Ask, panel: str) -> None:
    for expr in panels()[panel]:
        assert ask(expr), expr


@here
def test_figures_are_those_of_what_was_scraped(ask: Ask) -> None:
    """Not only something: what the small lake and the endpoint hold."""

    def one(expr: str) -> float:
        [sample] = ask(expr)
        return float(sample["value"][1])

    assert one("sum(tidegate_report_alarm)") == 1
    assert one('tidegate_run_exit_code{stage="validate"}') == 65
    assert one("tidegate:fallback:ratio_rate5m") == 0
    assert 0 <= one("tidegate:slow:ratio_rate5m") < 1
    assert 0 < one("tidegate:answer_seconds:p99_rate5m") < 2.5
    assert one("sum(rate(tidegate_answers_total[1m]))") > 0
    assert one('min(tidegate_setting{setting="release.slow_ms"})') == 100
    assert {sample["metric"]["stage"] for sample in ask("tidegate_run_timeout_seconds")} == set(STAGES)


@here
def test_every_rule_is_evaluated_and_what_the_lake_is_full_of_is_on_its_way(
    watched: tuple[Stack, httpx.Client],
) -> None:
    """A template that fails is written into the text, not told: each is read."""
    groups = watched[1].get("rules").json()["data"]["groups"]
    told = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert len(told) == len(rules())
    for name, rule in told.items():
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), name
    alerts = [alert for rule in told.values() for alert in rule.get("alerts", [])]
    assert {alert["labels"]["alertname"] for alert in alerts} == PENDING
    for alert in alerts:
        for text in alert["annotations"].values():
            assert "error" not in text.lower(), text
            assert "<no value>" not in text
    [open_] = [alert for alert in alerts if alert["labels"]["alertname"] == "IncidentOpen"]
    assert open_["labels"]["cause"] == "serving"
    assert "fallback_share  is 0.25;" in open_["annotations"]["description"]
    [stale, *_] = [alert for alert in alerts if alert["labels"]["alertname"] == "TableStale"]
    assert "Bound: 36 h" in stale["annotations"]["description"]


@here
def test_rules_and_settings_are_what_promtool_takes(tmp_path: Path) -> None:
    """The committed files as they are, and as `make up` writes them."""
    urls = {name: f"http://127.0.0.1:{port}" for port, name in enumerate(("endpoint", "exporter", "prometheus"), 1)}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(pointed(urls)))
    for path in (FOLDER / "prometheus.yml", tmp_path / "prometheus.yml"):
        checked = subprocess.run(["promtool", "check", "config", str(path)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert f"{len(rules())} rules found" in checked.stdout
    targets = [job["static_configs"][0]["targets"] for job in pointed(urls)["scrape_configs"]]
    assert targets == [["127.0.0.1:1"], ["127.0.0.1:2"]]


@here
@pytest.mark.parametrize("name", ["rules_test.yml", "rules_days_test.yml"])
def test_alarms_are_raised_and_silent_when_they_should(name: str) -> None:
    tested = subprocess.run(["promtool", "test", "rules", name], cwd=FOLDER, capture_output=True, text=True)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@here
def test_what_watches_is_a_part_of_the_stack(watched: tuple[Stack, httpx.Client]) -> None:
    """`status` sees it alive and answering, `down` will end exactly it."""
    stack, http = watched
    found = {one.name: one for one in services(stack, lambda url: httpx.get(url, trust_env=False).status_code < 500)}
    assert {name: one.state for name, one in found.items()} == {"exporter": "alive", "prometheus": "alive"}
    assert {one.pid for one in found.values()} <= {process.pid for process in stack.tree()}
    assert str(http.base_url).startswith(found["prometheus"].address)
    for one in found.values():
        listening = {c.laddr.ip for c in psutil.Process(one.pid).net_connections() if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}, "nobody else on the network"


def test_every_alarm_has_a_test_a_bound_in_time_and_says_what_to_do() -> None:
    """Held without Prometheus: `for` or a range long enough, hysteresis, figure, bound, first suspect, next step."""
    cases = "".join((FOLDER / name).read_text() for name in ("rules_test.yml", "rules_days_test.yml"))
    alarms = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alarms}) == len(alarms) >= 20
    for rule in alarms:
        name, said = rule["alert"], rule["annotations"]
        live = {"FeaturesUnknown"}
        matched = [pattern for pattern in re.findall(r'alertname=~?"([^"]+)"', cases) if re.fullmatch(pattern, name)]
        assert matched or name in live & PENDING, f"{name} has no case"
        assert rule["keep_firing_for"], name
        assert "for" in rule or "increase(" in rule["expr"], name
        assert rule["labels"]["severity"] in ("page", "ticket"), name
        assert "First suspect: " in said["description"], name
        assert "Next: " in said["description"], name


def test_the_containers_are_given_what_there_is() -> None:
    """Nothing here can start them: every file they mount exists, and what is scraped listens where it is scraped."""
    folder = ROOT / "infra" / "containers"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    services = compose["services"]
    mounts = [mount.split(":")[0] for name in ("prometheus", "grafana") for mount in services[name]["volumes"]]
    assert all((folder / mount).exists() if mount.startswith(".") else mount in compose["volumes"] for mount in mounts)
    ports = [services[name]["command"][-1] for name in ("endpoint", "exporter")]
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert [job["static_configs"][0]["targets"] for job in jobs] == [[f"127.0.0.1:{port}"] for port in ports]
    shown = yaml.safe_load((folder / "grafana" / "dashboards.yml").read_text())["providers"][0]["options"]["path"]
    assert any(mount.split(":")[1] == shown for mount in services["grafana"]["volumes"])
    assert all(
        services[name]["network_mode"] == services["endpoint"]["network_mode"] for name in ("exporter", "grafana")
    )


def test_the_committed_dashboards_are_what_the_code_renders() -> None:
    """`python -m infra.dashboards` writes them again."""
    assert {path.name: path.read_text() for path in BOARDS.glob("*.json")} == rendered()


def test_dashboards_are_importable() -> None:
    """Each has a name of its own and Prometheus as a choice; each panel says what it shows and asks something."""
    found = [json.loads(text) for text in rendered().values()]
    assert len({board["uid"] for board in found}) == len(found) == 4
    for board in found:
        assert [variable["type"] for variable in board["templating"]["list"]] == ["datasource"]
        for panel in board["panels"]:
            if panel["type"] == "row":
                continue
            assert panel["description"].endswith("."), panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
