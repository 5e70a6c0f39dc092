"""MLflow: every ranker a run and a model, every verdict a version of one, one alias for who is champion.

The lake stays the record; MLflow is for people to look at. Each call is safe to repeat: the run of a bundle is found by
its candidate and sha256, a model version likewise, so a retried stage adds nothing twice. Only this package imports
MLflow, and the file that MLflow itself runs (`jobs.serving.pyfunc`).
"""

from jobs.tracking.client import reached
from jobs.tracking.registry import champion, move_champion, register, remove_champion, tag
from jobs.tracking.runs import (
    EVIDENCE,
    Dataset,
    Point,
    artifact_url,
    begin_training,
    end_training,
    log_evidence,
    log_figures,
    log_ranker,
    models_url,
)
from jobs.tracking.saved import Rows

__all__ = [
    "EVIDENCE",
    "Dataset",
    "Point",
    "Rows",
    "artifact_url",
    "begin_training",
    "champion",
    "end_training",
    "log_evidence",
    "log_figures",
    "log_ranker",
    "models_url",
    "move_champion",
    "reached",
    "register",
    "remove_champion",
    "tag",
]
