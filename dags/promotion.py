"""# Promotion

The gate's verdict on a challenger, a person's answer, and the endpoint. Started by `weekly_training` and
`daily_warm_start`, never by the calendar.

## Reads and writes
Reads `evidence`, `candidates` and the ledger `promotions`. Writes the ledger; `deploy` also changes the endpoint and
moves MLflow's alias `champion`. The table below says which stage does what.

## Answering
`approve` waits under *Required Actions* and shows the verdict, five figures and the way to the evidence page: read that
first. **Approve** deploys the very bundle that was judged, in your name. **Reject** deploys nothing; the run is green,
because a no is an answer. Where the gate says hold or refuse, `approve` and `deploy` are skipped: nobody is asked.
There is no way to force it.

## A task is red: what it means on call
- **`promote`, "NotReady"**: the evidence of this day and mode is not there. Look at the DAG that started this run.
- **`deploy`, "Refused"**: the bundle on disk is not the one that was judged (its sha256 differs), or nobody approved.
  Nothing was changed; do not copy files by hand, train again.
- **`deploy`, anything else**: the endpoint did not take the model; it still serves the one before. See its own log.

## Clearing
Always safe. Clearing `promote` judges the same evidence again; clearing `approve` asks again; clearing `deploy`
deploys the same bundle again.

## By hand
*Trigger* with a Day and a Mode that were trained.
"""

from airflow.sdk import DAG

from jobs.orchestration import APPROVED_BY, MODE, approval, stage, standing_orders

STAGES = ("promote", "deploy")
orders = standing_orders(__doc__, STAGES, ("model", "approval"))
orders["params"] |= MODE

with DAG("promotion", schedule=None, max_active_runs=4, **orders):
    promote = stage("promote", mode="{{ params.mode }}")
    deploy = stage("deploy", mode="{{ params.mode }}", approved_by=APPROVED_BY)

    promote >> approval() >> deploy
