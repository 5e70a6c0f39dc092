"""The process that Spark forks its Python workers from: what every step needs is imported here once, for all of them.

Nothing may run on a thread of ours before a fork. Arrow's allocators have one each, and see to it themselves.
"""

import pyspark.worker  # noqa: F401
from pyspark.daemon import manager

import jobs.config
import jobs.parcels.spark  # noqa: F401

if __name__ == "__main__":
    manager()
