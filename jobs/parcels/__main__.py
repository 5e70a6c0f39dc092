"""`python -m jobs.parcels pyspark.worker`: what Spark on this machine forks its Python workers from."""

import sys


def without_archives() -> None:
    """Read Spark's Python as it is installed: from the zip that Java names first nothing is compiled before it is run,
    and each worker reads its directory once more.
    """
    sys.path[:] = [path for path in sys.path if not path.endswith((".zip", ".jar"))] or sys.path


if __name__ == "__main__":
    without_archives()
    from jobs.parcels.spark import fork_workers

    fork_workers()
