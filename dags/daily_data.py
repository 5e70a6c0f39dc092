"""# Daily data

Yesterday's logs become labels and features. 02:00 UTC, for the day that has just ended.

## Reads and writes
Reads the source's own files (or the raw lake that your loggers write). Writes the raw lake, the validated tables and
`quarantine`, `labels` and the feature tables. The table below says which stage does what.

## A task is red: what it means on call
- **Up for reschedule, "NotReady"**: an input has not arrived. The task checks again every ten minutes for two hours.
  Look at the loggers. If the day will never come, declare it: `python -m jobs lose --day D --why "..."` publishes it
  without rows, and later days go on. If it does come later, clear its run.
- **`validate`, "Refused"**: a critical expectation failed. Nothing of the day was published, and yesterday's tables
  are unchanged. The message names the expectation; the rows are in `quarantine`. Fix the source, then clear.
- **`ingest`, "Misconfigured" or "UsageError"**: the command or a setting is wrong. Retrying does not help.
- **Anything else** is a crash (memory, disk, a bug) that was tried three times. Read the log from its end.
- **`featurize` is green and raises `late_publication`** in Slack: the day's features were promised for 06:00
  (`features.available_after_hours`) and came later. Until then the endpoint served those of the day before, which
  training does not take into account. `daily_monitoring` counts the affected answers. There is nothing to clear; if it
  happens often, promise a later hour.
- Users are served as well as yesterday: models keep running. Training waits until the day is published.

## Clearing
Always safe: a stage replaces its whole day in one commit, and the same inputs give the same rows.

## By hand
*Trigger* with a Day. With Since, every day from there on is processed in one run, and no other DAG starts. If one of
these days is refused or missing, the others are still published. The task is then red and names the day; mark it as
success to let the tasks after it process the days that are there.
A range, one run per day, oldest first (the end is exclusive at midnight, so name the day after the last):
`airflow backfill create --dag-id daily_data --from-date 2026-01-05 --to-date 2026-01-08 --max-active-runs 1`.
Each finished day starts `daily_warm_start` for that day. Pause that DAG first if old days should not be trained on.
"""

from airflow.sdk import DAG

from jobs.orchestration import daily, stage, standing_orders

STAGES = ("ingest", "validate", "attribute", "featurize")

with DAG(
    "daily_data",
    schedule=daily(2),
    max_active_runs=1,
    **standing_orders(__doc__, STAGES, ("daily",), since=True, due_hours=6),
):
    ingest = stage("ingest", ranged=True)
    validate = stage("validate", ranged=True)
    attribute = stage("attribute", ranged=True, publishes=("labels",))
    featurize = stage("featurize", ranged=True, publishes=("user_features", "item_features"))

    ingest >> validate >> [attribute, featurize]
