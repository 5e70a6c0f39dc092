"""The as-of kernel: one machine in `core`, distributed by hash buckets in `spark`."""
