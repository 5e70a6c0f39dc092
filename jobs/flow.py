"""Every stage of Tidegate, left to right: what it reads and what it writes. The architecture on one page.

A stage may touch only the tables named here: `jobs.lake.run.Run` refuses any other, so this page cannot drift from the
code. `raw` is the raw lake a team's loggers write; `endpoint` and `registry` (MLflow) are services, not tables.

    ingest -> validate -> attribute --+-> assemble -> train -> backtest -> promote -> deploy
                       \\-> featurize -+                                               |
                                       monitor, experiment <-- served impressions <---+
                                       reevaluate <-- labels that closed, evidence
"""

from dataclasses import dataclass
from typing import Literal

VALIDATED = ("impressions", "clicks", "purchases", "requests", "items", "users")


@dataclass(frozen=True)
class Stage:
    """One verb: `module.run(run)` does it; `per` says whether `--mode full|warm` means something to it."""

    name: str
    doc: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    per: Literal["day", "mode"] = "day"

    @property
    def module(self) -> str:
        """Where its `run(run: Run) -> Counts` lives."""
        return f"jobs.{self.name}.job"


FEATURES = ("user_features", "item_features", "encodings")
SNAPSHOTS = ("items", "users")

# fmt: off
STAGES: dict[str, Stage] = {s.name: s for s in (
    Stage("ingest", "a source's own files become the raw lake",
          (), ("raw",)),
    Stage("validate", "raw events are checked against the suites; bad rows are set aside",
          ("raw",), ("quarantine", "profiles", *VALIDATED)),
    Stage("attribute", "conversions join the impressions that earned them",
          ("impressions", "clicks", "purchases"), ("labels",)),
    Stage("featurize", "what was known of users, items and contexts at the end of the day",
          ("impressions", "clicks", "purchases", *SNAPSHOTS), FEATURES),
    Stage("assemble", "labels meet the features known before them, split by time",
          ("impressions", *SNAPSHOTS, "labels", *FEATURES), ("examples", "retrieval_negatives"), "mode"),
    Stage("train", "rankers are fitted; the best on the validation day becomes the challenger",
          ("examples", "deployments"), ("candidates",), "mode"),
    Stage("backtest", "challenger and champion on the same held-out rows; what the logs can and cannot tell",
          ("examples", *VALIDATED, *FEATURES, "candidates", "deployments"), ("evidence",), "mode"),
    Stage("promote", "the gate's verdict on the evidence against what serves, with reasons",
          ("evidence", "candidates", "promotions", "deployments"), ("promotions",), "mode"),
    Stage("deploy", "an approved bundle reaches the endpoint; ledger and champion alias follow",
          ("promotions", "evidence", "deployments"), ("deployments",), "mode"),
    Stage("monitor", "what was served against what was judged: skew, drift, online quality",
          ("impressions", *SNAPSHOTS, "labels", *FEATURES, "deployments", "evidence"), ("serving_reports",)),
    Stage("experiment", "the endpoint's requests against the logging policy's, with honest intervals",
          ("impressions", "labels", "deployments"), ("readouts",)),
    Stage("reevaluate", "evidence is computed again once every label is in; which verdicts lasted",
          ("evidence", "examples", "labels", "requests", "items", *FEATURES, "candidates", "promotions",
           "deployments"), ("reevaluations",)),
)}
