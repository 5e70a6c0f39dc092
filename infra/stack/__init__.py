"""The launcher: Airflow, MLflow and the local endpoint on free loopback ports, and the demo that runs through them.

    python -m infra.stack demo [--source NAME] [--data DIR]
    python -m infra.stack up
    python -m infra.stack airflow backfill create --dag-id daily_data …
    python -m infra.stack down

Everything lives under `var/<name>/`; `stack.json` there names every process that was started, so that `down` ends
exactly those.
"""
