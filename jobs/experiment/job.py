"""`experiment`: the day's requests that the endpoint answered against those of the logging policy."""

from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.deployments import ledger
from jobs.experiment import core
from jobs.lake.run import Run
from jobs.lake.store import midnight
from jobs.lake.tables import LAKE
from jobs.outcomes import immature_note, told_by, with_clicks
from jobs.serving.served import served_by

IMPRESSIONS = ["impression_id", "request_id", "user_id", "policy"]
LABELS = ["impression_id", *told_by("clicked")]


def run(run: Run) -> dict[str, Any]:
    """Publish `readouts` of each day; a day on which the endpoint served nothing is published empty, with a note."""
    deployed = sorted({row["candidate_id"] for row in ledger.released(run)})
    served = {str(day): _day(run, day, deployed) for day in run.days}
    return {"served_requests": served}


def _day(run: Run, day: date, deployed: list[str]) -> int:
    impressions = run.read("impressions", [day], columns=IMPRESSIONS)
    cut = midnight(day + timedelta(days=1))
    shown = with_clicks(impressions, run.read("labels", [day], columns=LABELS), cut)
    shown = shown.append_column("served", served_by(shown["policy"], deployed))
    partition, schema = {"day": day.isoformat()}, LAKE["readouts"].schema
    variants = sorted(pc.unique(shown.filter(shown["served"])["policy"]).to_pylist())
    if not variants:
        note = "the endpoint decided nothing on this day"
        run.say(f"{day}: {note}")
        run.publish("readouts", partition, schema.empty_table(), notes={"experiment": note})
        return 0
    controls = sorted(pc.unique(shown.filter(pc.invert(shown["served"]))["policy"]).to_pylist())
    found = core.readout(shown, run.config.gate.confidence)
    note = immature_note(shown, cut)
    rows = core.rows(found, ", ".join(controls), ", ".join(variants), note)
    run.publish("readouts", partition, pa.Table.from_pylist(rows, schema))
    served: int = pc.count_distinct(shown.filter(shown["served"])["request_id"]).as_py()
    run.say(f"{day}: {served} requests answered by {', '.join(variants)}")
    return served
