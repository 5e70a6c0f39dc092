"""A training in MLflow: one run, and below it one per ranker, each with the same figures, so that a table compares."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pandas as pd

from jobs import tracking
from jobs.bundle import Bundle
from jobs.config import ROOT
from jobs.evidence import dataset
from jobs.lake.run import Run, code_version, now
from jobs.tracking import Dataset, Point, Rows
from jobs.train import calibrate, probe
from jobs.train.chain import Link
from jobs.train.progress import Fitted
from models.rankers.mmoe import Pruning

Values = Mapping[str, Mapping[str, float | None]]
ANSWERS = ROOT / "jobs" / "serving" / "pyfunc.py"
"""The code by which MLflow loads a bundle."""
ASKED = 5
"""Rows shown with a model as an example of what it is asked."""


def log(
    run: Run,
    drafts: Mapping[str, Bundle],
    fits: Mapping[str, Fitted],
    links: Mapping[str, Link],
    validation: Values,
    chosen: str,
    retrieved: Mapping[str, float],
) -> dict[str, str]:
    """By kind the id of its run. The training's own has the figures of the challenger.

    Only what the validation rows cannot carry a run may lack; a warm start figures of retrieval, for it retrieves as it
    did; all but what was to drop experts what that cost. What a training's dataset holds is told of that, once. The
    figures of the test rows come with the evidence (`jobs.backtest`).
    """
    tags = _tags(run)
    card = dataset.published(run.lineage("examples", run.partition))
    of_rows = dataset.figures(card) if card else {}
    began = now() - timedelta(seconds=run.seconds)
    training = tracking.begin_training(run.config, f"{run.mode}-{run.day}", tags, began)
    logged: dict[str, str] = {}
    metrics: dict[str, dict[str, float]] = {}
    for kind in sorted(drafts):
        lineage = drafts[kind].manifest["lineage"]
        metrics[kind] = _metrics(lineage, links[kind], retrieved, validation[kind])
        started_from = lineage["started_from"]
        logged[kind] = tracking.log_ranker(
            run.config,
            drafts[kind].candidate_id,
            drafts[kind].path,
            asked(drafts[kind]),
            params={**lineage["settings"], "policy": run.config.policy.kind},
            metrics=metrics[kind],
            tags={
                **tags,
                "ranker": kind,
                "chosen": str(kind == chosen).lower(),
                "bundle_sha256": drafts[kind].sha256,
                "started_from": started_from["candidate_id"] if started_from else "",
            },
            parent=training,
            curve=_curve(fits[kind]),
            data=_data(run, lineage["data_sha256"], of_rows),
            took=fits[kind].took,
        )
    told = {"chosen": chosen, "challenger": drafts[chosen].candidate_id, "rankers": ", ".join(sorted(drafts))}
    data = _data(run, drafts[chosen].manifest["lineage"]["data_sha256"], of_rows)
    tracking.end_training(run.config, training, metrics[chosen], {**tags, **told}, data)
    return logged


def _tags(run: Run) -> dict[str, str]:
    """Of the training's run and of each below it: what made it, of what."""
    return {
        "stage": run.stage.name,
        "day": run.day.isoformat(),
        "mode": run.mode,
        "code_version": code_version(),
        "config_hash": run.config.digest(run.stage.name),
        "inputs": json.dumps(run.inputs, sort_keys=True),
    }


def _metrics(
    lineage: Mapping[str, Any], link: Link, retrieved: Mapping[str, float], figures: Mapping[str, float | None]
) -> dict[str, float]:
    """Of a ranker's run."""
    cost = lineage.get("pruning")
    return {
        "train.rows": float(lineage["train_rows"]),
        **({"train.share": lineage["sample"]["share"]} if "sample" in lineage else {}),
        **link.figures,
        **calibrate.metrics(lineage["calibration"]),
        **({f"pruning.{name}": of for name, of in Pruning(**cost).figures.items()} if cost else {}),
        **retrieved,
        **{f"validation.{name}": value for name, value in figures.items() if value is not None},
    }


def asked(draft: Bundle) -> Rows | None:
    """Some of the rows that its chain is watched on, and what it says of them; None of a bundle that has none."""
    if draft.probe is None:
        return None
    columns = {name: column[:ASKED] for name, column in probe.columns(draft.probe).items()}
    rows = pd.DataFrame({name: _cells(column) for name, column in columns.items()})
    return Rows(ANSWERS, rows, ["score", "p_click", "p_conversion", *draft.ranker.predict(columns).outcomes])


def _cells(column: Any) -> list[Any]:
    """A column of lists without what is unknown to their right."""
    if column.ndim == 1:
        return list(column.tolist())
    return [[part for part in row if part is not None and part == part] for row in column.tolist()]


def _curve(fitted: Fitted) -> list[Point]:
    """By rows learned from; a ranker that learns in one go has none."""
    points = []
    for at in fitted.steps:
        found = {
            "curve.loss": at.loss,
            "curve.validation_log_loss": at.validation_log_loss,
            "curve.rows_per_second": at.rows_per_second,
        }
        points.append(Point(at.rows, {name: value for name, value in found.items() if value is not None}))
    return points


def _data(run: Run, sha256: str, of_rows: Mapping[str, float]) -> Dataset:
    name = f"examples {run.mode} {run.day}"
    return Dataset(name, sha256, run.config.lake.root / "examples", run.inputs["examples"], of_rows)
