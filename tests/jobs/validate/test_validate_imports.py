"""What a day of ordinary size does not pay for."""

import subprocess
import sys

from jobs.config import ROOT


def test_the_stage_judges_without_great_expectations_spark_and_pandas() -> None:
    """Seconds of import for a process whose work takes less."""
    code = (
        "import sys, jobs.validate.job, jobs.validate.results, jobs.validate.profile\n"
        "print(sorted({'great_expectations', 'pandas', 'pyspark'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
