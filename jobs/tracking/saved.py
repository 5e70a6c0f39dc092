"""A bundle as MLflow keeps a model: its files, the code that answers by them, the columns it asks for; no pickle."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import ROOT
from jobs.places import Place, copied

if TYPE_CHECKING:
    import pandas as pd

LOCK = ROOT / "requirements.lock"
"""A model's environment is that of its training; not there where Tidegate is installed without its repository."""
BUNDLE = "bundle"
"""What the code finds the files by."""


@dataclass(frozen=True)
class Rows:
    """What a model is asked and what it says: `asked` some rows that were learned from, `answers` its columns.

    Of `asked` a column is numbers (float64), words (object: str, None where unknown), or lists of either.
    """

    code: Path
    """The file that MLflow runs (models from code)."""
    asked: "pd.DataFrame"
    answers: Sequence[str]


@contextmanager
def saved(model_id: str, run_id: str, bundle: Place, rows: Rows | None) -> Iterator[Path]:
    """A folder of this machine, while inside, that holds the bundle as the MLflow model `model_id`; without `rows` its
    files alone.
    """
    with tempfile.TemporaryDirectory(prefix="mlflow-") as folder:
        files = copied(bundle, Path(folder) / "files")
        if rows is None:
            yield files
            return
        _save(Path(folder) / "model", model_id, run_id, files, rows)
        yield Path(folder) / "model"


def _save(folder: Path, model_id: str, run_id: str, files: Path, rows: Rows) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    asked = Schema([ColSpec(_type(rows.asked[name]), name, required=False) for name in rows.asked])
    signature = ModelSignature(asked, Schema([ColSpec(DataType.double, name) for name in rows.answers]))
    mlflow.pyfunc.save_model(
        str(folder),
        mlflow_model=Model(artifact_path="model", run_id=run_id, model_id=model_id, signature=signature),
        python_model=os.fspath(rows.code),
        artifacts={BUNDLE: str(files)},
        input_example=rows.asked,
        signature=signature,
        pip_requirements=os.fspath(LOCK) if LOCK.is_file() else [],
    )


def _type(column: "pd.Series[Any]") -> Any:
    """MLflow's word for what a column holds; of one that is unknown in every row, a word."""
    from mlflow.types import DataType
    from mlflow.types.schema import Array

    if column.dtype != object:
        return DataType.double
    known = [value for value in column if value is not None]
    lists = [value for value in known if not isinstance(value, str)]
    if not lists:
        return DataType.string
    return Array(DataType.double if any(isinstance(part, float) for of in lists for part in of) else DataType.string)
