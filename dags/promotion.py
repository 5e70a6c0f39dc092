"""# Promotion

The gate's verdict on a challenger, a person's answer, and the release. The release is immediate or, if the settings
plan steps (`release`), goes through a shadow and growing shares of the traffic, each watched before the next. Started
by `weekly_training` and `daily_warm_start`, never on a schedule.

## Reads and writes
Reads `evidence`, `candidates` and `deployments`, the ledger of releases. Writes `promotions`. `deploy` writes one row
per step into the ledger, changes the endpoint and moves MLflow's alias `champion`. The table below says which stage
does what.

## Answering
`approve` waits under *Required Actions*. It shows the verdict, five figures and a link to the evidence page: read that
page first.
- **Approve** deploys exactly the bundle that was judged, in your name, in place of exactly the model that it was
  compared with. The approval is bound to both, and to the evidence that you were shown.
- **Reject** deploys nothing. The task `reject` records in the ledger and on MLflow's model version who rejected and
  why. The run is green, because a no is an answer too.
- **No answer** within `release.answer_hours` is a rejection in nobody's name. Slack reminds you after half of that
  time, or after a day.

If `release.approvers` names people, only they may answer. The run's note says who answered what. If the gate's verdict
is hold or refuse, `approve` and `deploy` are skipped and nobody is asked. There is no way to override the gate.

## A task is red: what it means on call
- **`promote`, "NotReady"**: there is no evidence of this day and mode, or its challenger was trained again since. Look
  at the DAG that started this run.
- **`promote` or `deploy`, "Refused: … was judged against …"**: another model has gone live since the backtest, so it is
  unknown whether this challenger is better. Nothing was changed. In the DAG that started this run, clear `backtest`
  with all downstream tasks: it proposes again, and you are asked again with new evidence.
- **`promote`, "Refused: look … must judge one evidence" or "… was refused, so look … spends no risk"**: the evidence or
  the settings are not those that the look was begun for. In the DAG that started this run, clear `backtest` with all
  downstream tasks.
- **`approve`** asks again by itself if its process died; it is red after three times. Clear it. Airflow's own
  LocalExecutor mistakes an answer within seconds of the question for such a death; the launcher's executor and Celery's
  do not.
- **`deploy`, "Refused: … said yes to …"**: the challenger was judged again while the question was open. Clear `promote`
  with all downstream tasks and read the new evidence.
- **`deploy`, "Refused: a yes must come from one of …"**: the person who answered is not an approver. Clear `approve`
  and let an approver answer.
- **`deploy`, "Refused", the bundle**: the bundle on disk is not the one that was judged (its sha256 differs). Nothing
  was changed. Do not copy files by hand; train again.
- **`deploy`, "NotReady: … must go live or back first"**: another release stopped half-way. Clear the `deploy` task of
  that release: it continues or rolls back.
- **`deploy`, anything else**: the endpoint did not take the model and still serves the previous one. See the
  endpoint's log.
- **`watch_…`, "Refused: … was rolled back: …"**: the answers of that step raised an alarm, or there were too few of
  them in the given time (no traffic is not a pass). The champion has all traffic again; nothing else is to be done. The
  message counts what was seen. To release again, clear `deploy` with all downstream tasks.
- **a step after a watch, "NotReady: … must be watched on"**: the step had passed its watch, but would not pass now. The
  task checks again, and rolls back when the time is over.

## Going back
`make rollback` takes the newest release back: the model before it serves again and is champion. In the middle of a
release it also ends that release. If there is nothing to take back, it says so. `python -m jobs rollback --day D
--mode M --approved-by NAME` takes back a particular release. `python -m jobs champion` says what serves according to
the ledger.

## Clearing
Always safe. Clearing `promote` judges the same evidence again. Clearing `approve` asks again. Clearing `deploy` deploys
the same bundle again, or changes nothing if it already serves. A step that was already passed is not repeated, and its
watch checks nothing. No step starts before the watch of the step before it has passed.

## By hand
*Trigger* with a Day and a Mode that were trained.
"""

from airflow.sdk import DAG, chain

from jobs.orchestration import APPROVAL, MODE, approval, rejection, release, stage, standing_orders

STAGES = ("promote", "deploy")
# Before all days, old ones that are processed again above all: a person has answered, or waits to be asked.
orders = standing_orders(__doc__, STAGES, ("model", "approval"), asks=True, priority=100)
orders["params"] |= MODE

with DAG("promotion", schedule=None, max_active_runs=4, **orders):
    promote = stage("promote", mode="{{ params.mode }}")
    approve = approval()

    chain(promote, approve, *release(mode="{{ params.mode }}", approval=APPROVAL))
    chain(approve, rejection(mode="{{ params.mode }}"))
