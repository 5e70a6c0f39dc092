"""The layer contract: dags -> jobs -> models and never back; Airflow and Spark stay in their rooms."""

import re
import subprocess
import sys
from pathlib import Path

from jobs.config import ROOT
from tests.house import DRAWING, svg


def test_imports_never_run_back() -> None:
    """import-linter's contracts of pyproject.toml hold."""
    linter = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([str(linter)], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    assert "0 broken" in found.stdout


def test_only_spark_files_see_spark_and_only_orchestration_sees_airflow() -> None:
    """The pure rule of a stage must be testable without either."""
    for path in [*ROOT.glob("jobs/**/*.py"), *ROOT.glob("models/**/*.py")]:
        source = path.read_text()
        if path.name != "spark.py":
            assert not re.search(r"^\s*(from|import) pyspark", source, re.MULTILINE), path
        if "orchestration" not in path.parts:
            assert not re.search(r"^\s*(from|import) airflow", source, re.MULTILINE), path


def test_the_drawing_of_the_house_is_of_these_imports() -> None:
    """A picture of another house misleads more than none; `make docs` draws it again."""
    assert DRAWING.read_text() == svg()


def test_settings_are_read_from_the_environment_in_one_place() -> None:
    """No setting hides in a variable that `python -m jobs config` does not show; switching a library off is not one."""
    switch = re.compile(r"os\.environ\.setdefault\(|os\.environ\[\"[A-Z_]+\"\] = ")
    # Others' own variables: Spark's JAVA_HOME and PYSPARK_PYTHON, torchrun's TORCHELASTIC_RUN_ID, AWS's, and whether
    # there are any of Airflow's.
    allowed = {
        "jobs/__main__.py",
        "jobs/config/reading.py",
        "jobs/s3.py",
        "jobs/spark.py",
        "jobs/train/processes.py",
        "jobs/train/on_sagemaker.py",
    }
    for path in [*ROOT.glob("jobs/**/*.py"), *ROOT.glob("models/**/*.py"), *ROOT.glob("dags/*.py")]:
        name = path.relative_to(ROOT).as_posix()
        reads = [line for line in path.read_text().splitlines() if "os.environ" in line or "getenv" in line]
        assert name in allowed or all(switch.search(line) for line in reads), (name, reads)
