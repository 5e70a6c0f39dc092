"""What a bundle has answered at the endpoint in service: by the local endpoint's capture, or by SageMaker's on S3.

SageMaker writes `<destination>/<endpoint>/<variant>/yyyy/mm/dd/hh/<any>.jsonl` by the hour of the inference, a shadow's
answers beside those that were shown; a line holds request and answer as they were sent, as text or base64, and when,
to the second, but not how long it took. Source: the developer guide's "Data capture".
"""

import base64
import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from jobs.config import EndpointSettings
from jobs.serving import captured
from jobs.serving.answer import answer_of
from jobs.serving.capture import CAPTURE
from jobs.serving.captured import Said
from jobs.serving.files import SCHEME, Bucket, Files

HOUR = timedelta(hours=1)
MEMBERS = ("endpointInput", "endpointOutput")


def destination(settings: EndpointSettings) -> str:
    """The capture's address, as endpoint configs name it: on S3 where the settings have a bucket."""
    aws = settings.aws
    if aws.bucket:
        return f"{SCHEME}{aws.bucket}/{aws.prefix}/{CAPTURE}"
    return (settings.state / CAPTURE).resolve().as_uri()


def since(
    settings: EndpointSettings, kind: str, at: datetime, bundle_sha256: str, now: datetime, day: date | None = None
) -> list[Said]:
    """As `captured.since`; `kind`: `capture.CAPTURE` or `SHADOWS`, `now`: no answer is of later.

    On AWS seconds are whole, and `ms` is NaN. Raises as `files.Bucket` does.
    """
    if not settings.on_aws or not settings.aws.bucket:
        return captured.since(settings.state / kind, settings.name, at, bundle_sha256, day)
    if day is not None:
        # An event is asked about as it happens; one that is an hour late is of another hour's folder.
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        at, now = max(at, midnight), min(now, midnight + timedelta(days=1, hours=1))
    at = at.replace(microsecond=0)
    found = [
        said
        for text in _lines(Bucket(destination(settings), settings), settings.name, at, now)
        if (said := _said(text)) is not None
        and said.at >= at
        and said.answer.bundle_sha256 == bundle_sha256
        and (day is None or said.asked_at.date() == day)
    ]
    return sorted(found, key=lambda said: said.at)


def _lines(files: Files, endpoint: str, at: datetime, now: datetime) -> Iterator[str]:
    """Every line of the hours from one moment to another, of whatever variant."""
    for variant in files.below(endpoint):
        hour = at.replace(minute=0, second=0, microsecond=0)
        while hour <= now:
            for path in files.below(f"{variant}/{hour:%Y/%m/%d/%H}"):
                if path.endswith(".jsonl"):
                    yield from files.read(path).decode(errors="replace").splitlines()
            hour += HOUR


def _said(text: str) -> Said | None:
    """One line; None for one that holds no answer: torn, of another model, or an error."""
    try:
        line = json.loads(text)
        asked, answered = (_data(line["captureData"][name]) for name in MEMBERS)
        at = datetime.fromisoformat(line["eventMetadata"]["inferenceTime"])
        return Said(at, math.nan, answer_of(answered), {**asked})
    except (ValueError, LookupError, TypeError):
        return None


def _data(of: dict[str, Any]) -> Any:
    data = of["data"]
    return json.loads(base64.b64decode(data, validate=True) if of.get("encoding") == "BASE64" else data)
