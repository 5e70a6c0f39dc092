"""Folders of Parquet files that are more than that: tables of Delta, Iceberg or Hudi.

The format's own log says which of the files count: replaced ones lie there still, deleted rows with them.
"""

from jobs.places import Place, S3Path

MARKS = {"Delta": "_delta_log", "Iceberg": "metadata/*.metadata.json", "Hudi": ".hoodie"}
"""What a table format leaves in the folder of a table."""


def table_format(folder: Place) -> str | None:
    """Delta, Iceberg or Hudi where a folder is one of their tables."""
    if isinstance(folder, S3Path):
        # One request for all three.
        there = {path.name for path in folder.iterdir()}
        return next((name for name, mark in MARKS.items() if mark.partition("/")[0] in there), None)
    return next((name for name, mark in MARKS.items() if any(folder.glob(mark))), None)
