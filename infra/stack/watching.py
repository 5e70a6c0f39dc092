"""What watches a stack that stays: the exporter of pipeline and host, and Prometheus where this machine has it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.stack import airflow_api
from infra.stack.processes import Component
from jobs.config import ROOT
from jobs.errors import one_line

FOLDER = ROOT / "infra" / "prometheus"
BINARY = "prometheus"
OLDEST = (2, 42)
"""The first that knows `keep_firing_for`."""
KEPT = "15d"
"""How long Prometheus keeps what it has scraped."""


def watchers(folder: Path, urls: Mapping[str, str], environ: Mapping[str, str]) -> list[Component]:
    """The exporter and, where `urls` has an address for it, Prometheus scraping it and the endpoint."""
    exporter = [sys.executable, "-m", "infra.metrics", "--port", _port(urls["exporter"])]
    found = [Component("exporter", exporter, environ, lambda: airflow_api.answers(f"{urls['exporter']}/metrics"))]
    if BINARY in urls:
        found.append(prometheus(folder / BINARY, urls, environ))
    return found


def missing() -> str | None:
    """Why no Prometheus can be started on this machine; None where one can."""
    binary = shutil.which(BINARY)
    if binary is None:
        return "no prometheus on this machine"
    try:
        asked = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{binary} does not run: {one_line(error)}"
    said = asked.stdout + asked.stderr
    version = re.search(r"version (\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < OLDEST:
        return f"{binary} must be {'.'.join(map(str, OLDEST))} or newer; found {one_line(said, 60)}"
    return None


def prometheus(folder: Path, urls: Mapping[str, str], environ: Mapping[str, str]) -> Component:
    """Prometheus with its data in `folder`, on loopback, with the rules of this repository."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "prometheus.yml"
    settings.write_text(yaml.safe_dump(pointed(urls), sort_keys=False))
    address = urls[BINARY].removeprefix("http://")
    command = [
        *(shutil.which(BINARY) or BINARY, f"--config.file={settings}", f"--web.listen-address={address}"),
        *(f"--storage.tsdb.path={folder / 'data'}", f"--storage.tsdb.retention.time={KEPT}"),
    ]
    return Component(BINARY, command, environ, lambda: airflow_api.ready(f"{urls[BINARY]}/-/ready"))


def pointed(urls: Mapping[str, str]) -> dict[str, Any]:
    """`infra/prometheus/prometheus.yml` with this stack's addresses in place of its own."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    found["rule_files"] = [str(FOLDER / name) for name in found["rule_files"]]
    at = {"tidegate-endpoint": "endpoint", "tidegate-pipeline": "exporter"}
    for job in found["scrape_configs"]:
        job["static_configs"] = [{"targets": [urls[at[job["job_name"]]].removeprefix("http://")]}]
    return found


def _port(url: str) -> str:
    return url.rsplit(":", 1)[1]
