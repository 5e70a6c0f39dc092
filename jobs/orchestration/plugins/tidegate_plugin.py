"""What Airflow must know of Tidegate beside its DAGs; `AIRFLOW__CORE__PLUGINS_FOLDER` names this folder."""

from airflow.plugins_manager import AirflowPlugin

from jobs.orchestration import notes
from jobs.orchestration.by_hand import ByHand


class TidegatePlugin(AirflowPlugin):
    """The schedule of logs that have ended, and the notes of runs."""

    name = "tidegate"
    timetables = [ByHand]  # noqa: RUF012 - Airflow's way to declare them
    listeners = [notes]  # noqa: RUF012
