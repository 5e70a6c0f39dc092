"""Whether MLflow's alias says what the ledger says: who reads it there may not read the ledger."""

from jobs.deployments import alias, ledger
from jobs.errors import NotReady
from jobs.lake.run import Run
from jobs.monitor.core import Figure, exactly
from models.evaluation.estimate import Refusal

METRIC = "alias_moved"


def figures(run: Run) -> list[Figure]:
    """1, an alarm, where somebody moved it by hand; as of now, whichever day is reported. None before the first model.

    An MLflow that does not answer is no reason to have no report.
    """
    champion = ledger.champion(run, run.config.endpoint.name)
    if champion is None:
        return []
    try:
        told = alias.moved(run.config, champion)
    except NotReady as error:
        return [Figure(METRIC, Refusal(str(error)))]
    return [Figure(METRIC, exactly(float(told is not None), 1), told is not None, told or "")]
