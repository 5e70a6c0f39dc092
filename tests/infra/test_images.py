"""Each image holds what its role imports and nothing else; the files that make them are linted. No engine runs here."""

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from packaging.requirements import Requirement

from jobs import bundle
from jobs.config import ROOT
from models.rankers import fit
from models.settings import PolicySettings, RankerSettings
from tests.infra.endpoint.rig import training_data
from tests.infra.endpoint.test_endpoint_process import environment, process

FOLDER = ROOT / "infra" / "containers"
ROLES = ("serving", "jobs", "airflow", "tracking")
OURS = ("jobs", "models", "infra", "feature_repo", "expectations")
NOT_SERVED = {"torch", "onnx"}
"""What rankers are fitted and written with: imported by functions that an endpoint never calls."""
REFUSES = """
import json, os, sys
class Refused:
    names = set(json.loads(os.environ["NOT_IN_THE_IMAGE"]))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"no {name} in this image", name=name)
sys.meta_path.insert(0, Refused())
"""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path) -> dict[str, str]:
    """Version by package."""
    return {normal(name): version for name, _, version in (line.partition("==") for line in path.read_text().split())}


def outside(role: str) -> set[str]:
    """Modules that are installed here and not in a role's image."""
    held = locked(FOLDER / f"{role}.lock")
    return {
        module for module, names in packages_distributions().items() if not any(normal(name) in held for name in names)
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_the_versions_that_were_tested(role: str) -> None:
    everything, held = locked(ROOT / "requirements.lock"), locked(FOLDER / f"{role}.lock")
    assert held.items() <= everything.items(), "make lock writes them again"


def groups() -> dict[str, list[str]]:
    """Requirements of each role, with those of the roles that it includes."""
    told: dict[str, list[Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]

    def of(name: str) -> list[str]:
        return [one for said in told[name] for one in (of(said["include-group"]) if isinstance(said, dict) else [said])]

    return {name: of(name) for name in told}


@pytest.mark.parametrize("role", ROLES)
def test_a_lock_is_complete_for_pip_asks_for_nothing_more(role: str) -> None:
    """`--no-deps` installs it: what a package needs and the lock lacks would be missed where it is first imported."""
    held = locked(FOLDER / f"{role}.lock")
    waiting, seen = [Requirement(one) for one in groups()[role]], set()
    while waiting:
        asked = waiting.pop()
        name, extras = normal(asked.name), frozenset(asked.extras)
        if (name, extras) in seen or name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        seen.add((name, extras))
        assert name in held, f"{name} is needed"
        if name == "torch":
            continue  # with its own dependencies, which depend on the build
        for line in requires(name) or []:
            needed = Requirement(line)
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                waiting.append(needed)
    assert set(held) - {name for name, _ in seen} <= UNASKED, "more than is needed"


UNASKED = {"filelock", "fsspec", "mpmath", "networkx", "setuptools", "sympy", "colorama", "async-timeout", "tomli"}
"""torch's own, and what only other platforms or Pythons need and the resolver lists for all."""


@pytest.fixture(scope="module")
def house() -> grimp.ImportGraph:
    return grimp.build_graph(*OURS, include_external_packages=True)


@pytest.mark.parametrize(
    ("role", "begins", "never"),
    [
        ("serving", ("infra.endpoint.container", "infra.endpoint.__main__"), NOT_SERVED),
        ("jobs", ("jobs.",), set()),
        ("airflow", ("jobs.", "infra.metrics", "expectations", "feature_repo"), set()),
    ],
)
def test_what_a_role_s_code_imports_is_in_its_image(
    house: grimp.ImportGraph, role: str, begins: tuple[str, ...], never: set[str]
) -> None:
    """Inside functions too, where a missing package is found by the first request or the first fit."""
    code = {
        name for name in house.modules if name.startswith(begins) and not (role == "jobs" and "orchestration" in name)
    }
    read = code.union(*(house.find_upstream_modules(name) for name in code))
    assert len(read) > 100
    assert {name.partition(".")[0] for name in read} & outside(role) == never


def test_a_container_answers_with_what_its_image_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real process that finds no other package ranks by the network and says no fallback."""
    (tmp_path / "sitecustomize.py").write_text(REFUSES)
    data, rules = training_data(5), RankerSettings()
    ranker, fallback = (fit(kind, data, rules) for kind in ("mmoe", "popularity"))
    made = bundle.write(tmp_path, "mmoe-full-2026-01-08", ranker, fallback, None, PolicySettings(kind="greedy"), {})
    assert {"airflow", "pyspark", "mlflow", "torch", "onnx", "sklearn"} <= outside("serving")
    environ = {
        **environment(tmp_path),
        "TIDEGATE_BUNDLE_SHA256": made.sha256,
        "PYTHONPATH": str(tmp_path),
        "NOT_IN_THE_IMAGE": json.dumps(sorted(outside("serving"))),
    }
    with process("infra.endpoint.container", environ, "serve", "--model", str(made.path)) as (_, url):
        body = b'{"request_id": "r", "surface": "home", "k": 2, "candidates": ["i1", "i2", "i3"]}'
        with urllib.request.urlopen(urllib.request.Request(f"{url}/invocations", body), timeout=30) as answer:
            found = json.load(answer)
    assert (found["fallback"], len(found["items"])) == (False, 2)


def test_the_file_of_images_is_clean() -> None:
    """hadolint, with what is said about a line beside it."""
    binary = Path(sys.prefix) / "bin" / "hadolint"
    found = subprocess.run([binary, "Containerfile"], cwd=FOLDER, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, "")


def test_an_image_says_its_version_runs_as_nobody_and_is_small() -> None:
    """A user by number, which Kubernetes can tell from root; no latest; a lock of its own."""
    text = (FOLDER / "Containerfile").read_text()
    stages = dict(re.findall(r"^FROM \S+ AS (\w+)$(.*?)(?=^FROM|\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(ROLES) <= set(stages)
    for role in ROLES:
        assert re.findall(r"^USER (.+)$", stages[role], re.MULTILINE) == ["10001"], role
        assert f"infra/containers/{role}.lock" in text
    assert "latest" not in text
    assert len(locked(FOLDER / "serving.lock")) < len(locked(ROOT / "requirements.lock")) / 3
    ignored = (FOLDER / "Containerfile.dockerignore").read_text().split()
    assert {".git", ".venv", "var"} <= set(ignored)


def test_services_run_the_image_of_their_role_and_are_reached_from_this_machine_alone() -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    services: dict[str, dict[str, Any]] = compose["services"]
    for name, service in services.items():
        if "build" in service:
            assert service["image"] == f"tidegate-{service['build']['target']}", name
        else:
            assert re.search(r":v?\d", service["image"]), f"{name} needs a version"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        for other in service.get("depends_on", ()):
            assert other in services, name
        for config in service.get("configs", ()):
            assert config["source"] in compose["configs"], name
    used = {service["build"]["target"] for service in services.values() if "build" in service}
    assert used == {"serving", "airflow", "tracking"}
    assert os.fspath(compose["x-airflow"]["build"]["context"]) == "../.."
