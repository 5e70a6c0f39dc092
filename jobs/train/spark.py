"""Trees of more rows than one process should learn from, by xgboost's own estimator for Spark.

The objective, the columns, the depth and what stops early are those of one process (`models.rankers.xgboost`), and what
comes of it is a booster like any other. What differs: bins are read off all rows, not off a drawn part; sums are added
up among tasks, so bytes depend on their number (`ranker.xgboost.spark_tasks`); losses are told in the end. Rows travel
as part files, which every executor must be able to read.
"""

import shutil
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost
from numpy.typing import NDArray
from xgboost.spark import SparkXGBClassifier

from jobs.lake.run import Run
from jobs.places import here
from jobs.spark import as_named, session
from models.rankers.labels import Label
from models.rankers.xgboost import Boosting

ROWS_AT_ONCE = 100_000
NAMES = {"eta": "learning_rate", "lambda": "reg_lambda", "seed": "random_state"}
"""xgboost's parameters and what its estimators call them."""
IMPLIED = ("objective",)
"""Of the parameters: what the estimator sets itself, to the same, where labels are 0 and 1."""
SCHEMA = pa.schema(
    {"features": pa.list_(pa.float32()), "label": pa.float32(), "weight": pa.float32(), "held_out": pa.bool_()}
)


def grown(run: Run, task: Boosting) -> tuple[xgboost.Booster, list[float]]:
    """See `models.rankers.xgboost.Elsewhere`."""
    tasks = run.config.ranker.xgboost.spark_tasks
    run.say(f"xgboost: Spark grows trees of {len(task.table)} rows, {tasks} tasks together")
    folder = here(run.config.bundles) / f".rows-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        with pq.ParquetWriter(folder / "rows.parquet", SCHEMA) as file:
            _write(file, task.table, task.label, held_out=False)
            if task.later is not None:
                _write(file, task.later.table, task.later.label, held_out=True)
        own = {NAMES.get(name, name): value for name, value in task.parameters.items() if name not in IMPLIED}
        stops = {} if task.later is None else {"early_stopping_rounds": task.stop_after}
        estimator = SparkXGBClassifier(
            weight_col="weight",
            validation_indicator_col=None if task.later is None else "held_out",
            num_workers=tasks,
            force_repartition=True,
            n_estimators=task.rounds,
            feature_types=task.types,
            eval_metric="logloss",
            verbose=False,
            xgb_model=task.start,
            **own,
            **stops,
        )
        with session(run.config.spark, run.stage.name) as spark:
            model = estimator.fit(spark.read.parquet(as_named(folder)))
    finally:
        shutil.rmtree(folder)
    summary = model.training_summary
    return model.get_booster(), summary.validation_objective_history.get("logloss", [])


def _write(file: pq.ParquetWriter, table: NDArray[np.float32], label: Label, held_out: bool) -> None:
    width = table.shape[1]
    for first in range(0, len(table), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        rows = np.ascontiguousarray(table[part])
        offsets = np.arange(len(rows) + 1, dtype=np.int32) * width
        columns = [
            pa.ListArray.from_arrays(offsets, rows.ravel()),
            label.value[part].astype(np.float32),
            label.weight[part].astype(np.float32),
            np.full(len(rows), held_out),
        ]
        file.write_table(pa.table(columns, schema=SCHEMA))
