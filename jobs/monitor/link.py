"""Where a browser finds a day's page: at the MLflow run of the model that served, as the evidence for it."""

from datetime import date

from jobs import tracking
from jobs.deployments import ledger
from jobs.errors import NotReady
from jobs.lake.run import Run
from jobs.places import Place

FOLDER = "reports"
"""Of a run's evidence: what came of it, day by day."""


def to(run: Run, day: date, page: Place, served: ledger.Row | None) -> str:
    """The address of the page, logged at the run of what `served` (its row of the ledger), else of the champion.

    The page's path where MLflow is no server or does not answer, or where nothing was ever deployed: a report that
    nobody can click is still a report.
    """
    row = served or ledger.champion(run, run.config.endpoint.name)
    trained = {} if row is None else {"day": row["day"], "mode": row["mode"]}
    found = run.read("candidates", where=trained, columns=["bundle_sha256", "run_id"]).to_pylist() if trained else []
    at = next((one["run_id"] for one in found if row and one["bundle_sha256"] == row["bundle_sha256"]), None)
    if at is None:
        return str(page)
    name = f"{FOLDER}/{day}.html"
    try:
        tracking.log_evidence(run.config, at, {}, {name: page.read_text()})
        return tracking.artifact_url(run.config, at, f"{tracking.EVIDENCE}/{name}") or str(page)
    except NotReady as error:
        run.say(f"{day}: nobody can click the page: {error}")
        return str(page)
