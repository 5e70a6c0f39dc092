"""Folders of Parquet files that are more than that: tables of Delta, Iceberg or Hudi."""

from pathlib import Path

from jobs.errors import Refused

MARKS = {"Delta": "_delta_log", "Iceberg": "metadata/*.metadata.json", "Hudi": ".hoodie"}
"""What a table format leaves in the folder of a table."""


def refuse_table_format(folder: Path) -> None:
    """Raises `Refused` where a folder is a table of Delta, Iceberg or Hudi.

    The format's own log says which of the files count: replaced ones lie there still, deleted rows with them.
    """
    for name, mark in MARKS.items():
        found = next(folder.glob(mark), None)
        if found is not None:
            raise Refused(
                f"folder {folder} needs to hold plain Parquet files, each of which counts; found {found.name} of a "
                f"table in the {name} format, whose log says which do: export the table as plain files"
            )
