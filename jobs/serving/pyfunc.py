"""What MLflow runs where `models:/tidegate-ranker@champion` is loaded: the bundle answers rows of columns.

A row is an item that may be shown: the features of its user, of itself and of the request, as `examples` has them;
`position` 1 is what the endpoint asks for. The answer is what the endpoint says of the item before its policy draws.
MLflow keeps this very file beside the bundle and no pickle; Tidegate must be installed where it is loaded.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from numpy.typing import NDArray

from jobs.bundle import load
from models.policies.score import score
from models.rankers.features import ATTRIBUTE_PREFIX, WIDTHS
from models.rankers.protocol import Inputs


class Served(PythonModel):
    """The bundle of a model version."""

    def load_context(self, context: Any) -> None:
        """Load the bundle; every file is checked against its manifest."""
        self.bundle = load(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """score, p_click and p_conversion of n rows, and further outcomes; what a row lacks is unknown."""
        said = self.bundle.ranker.predict(columns(model_input, self.bundle.ranker.inputs))
        told = {"score": score(said, self.bundle.policy), "p_click": said.p_click, "p_conversion": said.p_conversion}
        return pd.DataFrame({**told, **said.outcomes}, index=model_input.index)


def columns(rows: pd.DataFrame, inputs: Inputs) -> dict[str, NDArray[Any]]:
    """The rows as a ranker of these inputs takes them."""
    found: dict[str, NDArray[Any]] = {name: _numbers(rows, name) for name in inputs.numbers}
    found |= {name: _words(rows, name) for name in (*inputs.ids, *inputs.categories)}
    found |= {name: _lists(rows, name, WIDTHS[name], None) for name in inputs.lists}
    for name in (name for name in inputs.vectors if name in rows):
        width = max((len(of) for of in rows[name] if of is not None), default=0)
        found[name] = _lists(rows, name, width, np.nan).astype(np.float32)
    names = [str(name) for name in rows if str(name).startswith(ATTRIBUTE_PREFIX)] if inputs.attributes else []
    return found | {name: _words(rows, name) if rows[name].dtype == object else _numbers(rows, name) for name in names}


def _numbers(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return rows[name].to_numpy(np.float64) if name in rows else np.full(len(rows), np.nan)


def _words(rows: pd.DataFrame, name: str) -> NDArray[np.object_]:
    found = np.full(len(rows), None, dtype=object)
    for row, of in enumerate(rows.get(name, ())):
        found[row] = of if isinstance(of, str) else None
    return found


def _lists(rows: pd.DataFrame, name: str, width: int, unknown: float | None) -> NDArray[Any]:
    """(n, width): each list's first, then unknown."""
    found = np.full((len(rows), width), unknown, dtype=object)
    for row, of in enumerate(rows.get(name, ())):
        known = [] if of is None else list(of)[:width]
        found[row, : len(known)] = known
    return found


set_model(Served())
