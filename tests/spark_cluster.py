"""A standalone Spark cluster of the pip package on loopback: a master and workers as processes of their own."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyspark

from jobs.spark import java_home

STARTED_SECONDS = 180.0
SMALL = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
EXECUTOR_MIB = 512


@dataclass(frozen=True)
class Cluster:
    """An address, and the folder of each worker, in which a folder an executor appears."""

    master: str
    workers: tuple[Path, ...]

    def executors(self, application: str) -> list[int]:
        """How many executors each worker has started for an application."""
        return [len(list((worker / application).glob("*/stderr"))) for worker in self.workers]


@contextmanager
def standalone(folder: Path, workers: int = 2, memory_mib: int = EXECUTOR_MIB) -> Iterator[Cluster]:
    """Workers of one core and one executor each; every process is ended by its id."""
    with ExitStack() as started:
        log = started.enter_context(_daemon("master.Master", folder / "master.log", "--port", "0"))
        master = _said(log, r"Starting Spark master at (spark://\S+)")
        homes = tuple(folder / f"worker-{n}" for n in range(workers))
        size = ("--cores", "1", "--memory", f"{memory_mib}m")
        logs = []
        for home in homes:
            words = (*size, "--work-dir", str(home), master)
            logs.append(started.enter_context(_daemon("worker.Worker", folder / f"{home.name}.log", *words)))
        for log in logs:
            _said(log, "(Successfully registered with master)")
        yield Cluster(master, homes)


@contextmanager
def _daemon(name: str, log: Path, *words: str) -> Iterator[Path]:
    command = [str(Path(pyspark.__file__).parent / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}"]
    env = {
        **os.environ,
        "JAVA_HOME": str(java_home()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": SMALL,
    }
    command += ["--host", "127.0.0.1", "--webui-port", "0", *words]
    with log.open("w") as file, subprocess.Popen(command, env=env, stdout=file, stderr=file) as child:
        try:
            yield log
        finally:
            child.terminate()


def _said(log: Path, pattern: str) -> str:
    """What a process says of itself once it is up."""
    until = time.monotonic() + STARTED_SECONDS
    while not (found := re.search(pattern, log.read_text())):
        assert time.monotonic() < until, log.read_text()[-2000:]
        time.sleep(0.05)
    return found.group(1)
