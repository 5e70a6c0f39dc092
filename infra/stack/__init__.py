"""The launcher: Airflow, MLflow and the local endpoint on free loopback ports, and the demo that runs through them.

    python -m infra.stack demo [--source NAME] [--data DIR] [--lake s3] [--on team]
    python -m infra.stack up [--lake s3] [--on team]
    python -m infra.stack status
    python -m infra.stack airflow backfill create --dag-id daily_data …
    python -m infra.stack jobs rollback --approved-by NAME
    python -m infra.stack down

Everything lives under `var/<name>/`; `stack.json` there names every process that was started, so that `down` ends
exactly those and `status` tells which of them live. A stack that stays is watched: by an exporter of pipeline and host
(infra/metrics), and by Prometheus where the machine has one.
"""
