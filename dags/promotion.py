"""# Promotion

The gate's verdict on a challenger, a person's answer, and its way to people. All at once, or, where the settings plan
it (`release`), as a shadow and by growing shares of the traffic, each watched before the next. Started by
`weekly_training` and `daily_warm_start`, never by the calendar.

## Reads and writes
Reads `evidence`, `candidates` and the ledger of releases, `deployments`. Writes `promotions`; `deploy` writes a row a
step into the ledger, changes the endpoint and moves MLflow's alias `champion`. The table below says which stage does
what.

## Answering
`approve` waits under *Required Actions* and shows the verdict, five figures and the way to the evidence page: read that
first. **Approve** deploys the very bundle that was judged, in your name, in place of the very model it was compared
with: the yes is bound to both and to the evidence you were shown. **Reject** deploys nothing: `reject` alone runs
and notes in the ledger and on MLflow's model version who said no and why; the run is green, because a no is an answer.
So it is, in the name of nobody, where `release.answer_hours` are over; Slack reminds when half of them are, or after a
day. Where `release.approvers` names people, only they may answer. Who said what stands in the run's note. Where the
gate says hold or refuse, `approve` and `deploy` are skipped: nobody is asked. There is no way to force it.

## A task is red: what it means on call
- **`promote`, "NotReady"**: the evidence of this day and mode is not there, or its challenger was trained again since.
  Look at the DAG that started this run.
- **`promote` or `deploy`, "Refused: … was judged against …"**: another model went live since the backtest, so nobody
  knows yet whether this one is better. Clear `backtest` with all downstream in the DAG that started this run: it
  proposes anew, and you are asked again on fresh evidence. Nothing was changed.
- **`promote`, "Refused: look … must judge one evidence" or "… was refused, so look … spends no risk"**: other evidence,
  or other settings, than the look was begun for. Clear `backtest` with all downstream in the DAG that started this run.
- **`approve`** is asked again by itself where its process died; red after three times. Clear it. Airflow's own
  LocalExecutor takes an answer in the very seconds of the question for such a death; the launcher's and Celery's not.
- **`deploy`, "Refused: … said yes to …"**: it was judged again while the question was open. Clear `promote` with
  all downstream, and read what you are shown now.
- **`deploy`, "Refused: a yes must come from one of …"**: whoever answered is no approver. Clear `approve`, let one of
  them answer.
- **`deploy`, "Refused", the bundle**: the one on disk is not the one that was judged (its sha256 differs). Nothing was
  changed; do not copy files by hand, train again.
- **`deploy`, "NotReady: … must go live or back first"**: another release died half-way. Its own `deploy`, cleared, goes
  on or goes back.
- **`deploy`, anything else**: the endpoint did not take the model; it still serves the one before. See its own log.
- **`watch_…`, "Refused: … was rolled back: …"**: the answers of that step were alarming, or too few told anything until
  patience was over (no traffic is no pass). The champion has all traffic again and nothing else is to be done; the
  sentence counts what was seen. Clear `deploy` with all downstream to release it again.
- **a step after a watch, "NotReady: … must be watched on"**: what had passed when it was watched does not any more. It
  asks again, and goes back when patience is over.

## Going back
`make rollback`: the newest release leaves, the model before it serves again and is champion; in the middle of a release
too, which it ends; with nothing to take back it says so. `python -m jobs rollback --day D --mode M --approved-by NAME`
names the one that is meant. `python -m jobs champion` says what serves by the ledger.

## Clearing
Always safe. Clearing `promote` judges the same evidence again; clearing `approve` asks again; clearing `deploy`
deploys the same bundle again, or changes nothing where it serves already. A step that is behind is not taken again, and
a watch of it looks at nothing; no step is taken whose watch has not passed.

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
