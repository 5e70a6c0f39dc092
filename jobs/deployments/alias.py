"""MLflow's alias `champion` beside the ledger, which alone says who serves: moved by hand it changes nothing."""

from collections.abc import Mapping
from typing import Any

from jobs import tracking
from jobs.config import Config


def moved(config: Config, champion: Mapping[str, Any] | None) -> str | None:
    """What to say where the alias names another than the ledger's champion (its live row); None where it does not.

    Raises as `tracking.champion` does.
    """
    named, serves = tracking.champion(config), None if champion is None else champion["candidate_id"]
    if named == serves:
        return None
    return f"MLflow's alias names {named or 'nothing'}, moved by hand: {serves or 'nothing'} is champion, and serves"
