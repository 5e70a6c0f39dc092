"""What other Delta writers leave in a table that delta-rs cannot write itself: deletion vectors and mapped columns."""

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobs.lake.store import Lake

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def mark_deleted(lake: Lake, table: str, rows: Sequence[int]) -> Path:
    """Rows of a table's first part file by position, deleted as Spark does it: a bitmap in the log, the file as it was.

    Returns the file. Source: PROTOCOL.md, "Deletion Vector Format"; RoaringFormatSpec.
    """
    actions = [action for entry in _entries(lake, table) for action in _read(entry)]
    add = next(action["add"] for action in actions if "add" in action)
    bitmap = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16) + struct.pack(f"<{len(rows)}H", *rows)
    vector = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    inline = {"storageType": "i", "pathOrInlineDv": _z85(vector), "sizeInBytes": len(vector), "cardinality": len(rows)}
    removed = {name: add[name] for name in ("path", "partitionValues", "size")}
    _append(
        lake,
        table,
        [
            {"commitInfo": {"timestamp": 1, "operation": "DELETE", "operationParameters": {}}},
            {"protocol": _features("deletionVectors")},
            {"remove": {**removed, "dataChange": True, "deletionTimestamp": 1, "extendedFileMetadata": True}},
            {"add": {**add, "deletionVector": inline}},
        ],
    )
    return lake.root / table / add["path"]


def map_columns(lake: Lake, table: str) -> None:
    """Columns get other names in files to come, as Spark does before it renames or drops one."""
    entry = _entries(lake, table)[0]

    def mapped(metadata: dict[str, Any]) -> dict[str, Any]:
        schema = json.loads(metadata["schemaString"])
        for n, field in enumerate(schema["fields"], 1):
            field["metadata"] = {"delta.columnMapping.id": n, "delta.columnMapping.physicalName": field["name"]}
        setting = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": str(len(schema["fields"]))}
        return {**metadata, "schemaString": json.dumps(schema), "configuration": setting}

    (metadata,) = (action["metaData"] for action in _read(entry) if "metaData" in action)
    _append(lake, table, [{"protocol": _features("columnMapping")}, {"metaData": mapped(metadata)}])


def demand(lake: Lake, table: str, feature: str) -> None:
    """The table asks its readers for something that no reader of today knows."""
    _append(lake, table, [{"protocol": _features(feature)}])


WRITERS: dict[str, Callable[[Lake, str], Any]] = {
    "deletion vectors": lambda lake, table: mark_deleted(lake, table, [1]),
    "mapped columns": map_columns,
    "a feature of tomorrow": lambda lake, table: demand(lake, table, "timeTravelToTheFuture"),
}


def _features(name: str) -> dict[str, Any]:
    return {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [name], "writerFeatures": [name]}


def _entries(lake: Lake, table: str) -> list[Path]:
    return sorted((lake.root / table / "_delta_log").glob("*.json"))


def _read(entry: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in entry.read_text().splitlines()]


def _append(lake: Lake, table: str, actions: Sequence[dict[str, Any]]) -> None:
    entries = _entries(lake, table)
    entries[0].with_name(f"{len(entries):020}.json").write_text("".join(json.dumps(one) + "\n" for one in actions))


def _z85(content: bytes) -> str:
    """Base 85 of ZeroMQ, padded with zeros to four bytes."""
    text = ""
    for at in range(0, len(content), 4):
        number = int.from_bytes(content[at : at + 4].ljust(4, b"\0"), "big")
        text += "".join(Z85[number // 85**power % 85] for power in (4, 3, 2, 1, 0))
    return text
