"""All rankers of a training on the rows its challenger was judged on, for MLflow's table. Nothing is judged by it."""

from datetime import date

import pyarrow as pa

from jobs import bundle, tracking
from jobs.evidence import core
from jobs.evidence.document import Document
from jobs.evidence.scored import MEASURED, compared, scored
from jobs.lake.run import Run
from jobs.moment.identity import IDENTITY
from jobs.places import place
from models.evaluation.estimate import Estimate


def log(run: Run, trained: date, test: pa.Table, document: Document) -> None:
    """`test.<metric>` of those that are still there, the champion's beside; the challenger has its from the evidence.

    Raises as `tracking.log_figures` does.
    """
    rows = run.read("candidates", where={"day": trained.isoformat(), "mode": run.mode}).to_pylist()
    mine = document.challenger.bundle_sha256
    others = [row for row in rows if row["bundle_sha256"] != mine and place(row["bundle"]).is_dir()]
    if not others:
        return
    rankers = {row["ranker"]: bundle.load(place(row["bundle"]), row["bundle_sha256"]).ranker for row in others}
    said = scored(test, rankers, IDENTITY.empty_table())
    champion = {name: of for name, of in core.figures(document).items() if name.startswith("champion.")}
    for row in others:
        kind = row["ranker"]
        sides = compared(said, kind, kind, run.config.gate, metrics=MEASURED)
        found = {f"test.{metric}": of["challenger"] for metric, of in sides.items()}
        figures = {name: of.value for name, of in found.items() if isinstance(of, Estimate)}
        tracking.log_figures(run.config, row["run_id"], {**champion, **figures})
