"""Makes `ByHand` known to Airflow; `AIRFLOW__CORE__PLUGINS_FOLDER` names this folder where logs have ended."""

from airflow.plugins_manager import AirflowPlugin

from jobs.orchestration.by_hand import ByHand


class TidegatePlugin(AirflowPlugin):
    """Timetables of Tidegate."""

    name = "tidegate"
    timetables = [ByHand]  # noqa: RUF012 - Airflow's way to declare them
