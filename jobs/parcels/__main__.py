"""`python -m jobs.parcels pyspark.worker`: what Spark on this machine forks its Python workers from."""

from jobs.parcels.spark import fork_workers

if __name__ == "__main__":
    fork_workers()
