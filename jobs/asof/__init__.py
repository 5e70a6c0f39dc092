"""The as-of kernel: one machine in `core`, on Spark what `featurize` still needs of SQL in `spark`."""
