"""What a bundle has answered at the endpoint in service: by the local endpoint's capture, or by SageMaker's on S3.

SageMaker writes `<destination>/<endpoint>/<variant>/yyyy/mm/dd/hh/<any>.jsonl` by the hour of the inference, a shadow's
answers beside those that were shown; a line holds request and answer as they were sent, as text or base64, and when,
to the second, but not how long it took. Source: the developer guide's "Data capture".
"""

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any

from jobs.config import EndpointSettings
from jobs.lake.store import midnight
from jobs.serving import captured
from jobs.serving.answer import answer_of
from jobs.serving.capture import CAPTURE, SHADOWS
from jobs.serving.captured import Said
from jobs.serving.files import SCHEME, Bucket, Files

MEMBERS = ("endpointInput", "endpointOutput")


def destination(settings: EndpointSettings) -> str:
    """The capture's address, as endpoint configs name it: on S3 where the settings have a bucket."""
    aws = settings.aws
    if aws.bucket:
        return f"{SCHEME}{aws.bucket}/{aws.prefix}/{CAPTURE}"
    return (settings.state / CAPTURE).resolve().as_uri()


def since(settings: EndpointSettings, kind: str, at: datetime, bundle_sha256: str, now: datetime) -> list[Said]:
    """As `captured.since`; `kind`: `capture.CAPTURE` or `SHADOWS`, `now`: no answer is of later.

    On AWS seconds are whole, and `ms` is NaN. Raises as `files.Bucket` does.
    """
    if not _on_s3(settings):
        return captured.since(settings.state / kind, settings.name, at, bundle_sha256)
    at = at.replace(microsecond=0)
    said = map(_said, _lines(Bucket(destination(settings), settings), settings.name, at, now))
    mine = [one for one in said if one is not None and one.at >= at and one.answer.bundle_sha256 == bundle_sha256]
    return sorted(mine, key=lambda one: one.at)


def of_day(settings: EndpointSettings, day: date) -> Iterator[Said]:
    """What any bundle has answered to the requests of a day, shown or as a shadow, one by one.

    Raises as `since`.
    """
    if _on_s3(settings):
        told = map(_said, _of_day(settings, day))
        yield from (said for said in told if said is not None and _is_of(said, day))
        return
    for kind in (CAPTURE, SHADOWS):
        yield from captured.of_day(settings.state / kind, settings.name, day)


def lines(settings: EndpointSettings, day: date) -> Iterator[str]:
    """The answers to the requests of a day, as the local endpoint's capture writes them, for the readers of `captured`.

    On S3 those of a shadow are among them. A torn line is as it was found. Raises as `since`.
    """
    if not _on_s3(settings):
        yield from captured.lines(settings.state / CAPTURE / f"date={day}")
        return
    for text in _of_day(settings, day):
        line = _line(text)
        if line is None:
            yield text
        elif _is_of(line, day):
            told = {"request": line.request, "response": asdict(line.answer), "ms": line.ms}
            yield json.dumps({"endpoint": settings.name, **told, "at": line.at.isoformat()})


def _on_s3(settings: EndpointSettings) -> bool:
    return settings.on_aws and bool(settings.aws.bucket)


def _is_of(said: Said, day: date) -> bool:
    return said.asked_at.date() == day


def _of_day(settings: EndpointSettings, day: date) -> Iterator[str]:
    """Every line that may be of a day: an event is asked about as it happens, or up to an hour after it."""
    first = midnight(day)
    until = first + timedelta(days=1, hours=1)
    yield from _lines(Bucket(destination(settings), settings), settings.name, first, until)


def _lines(files: Files, endpoint: str, at: datetime, now: datetime) -> Iterator[str]:
    """Every line of the hours from one moment to another, of whatever variant."""
    days = [at.date() + timedelta(days=n) for n in range((now.date() - at.date()).days + 1)]
    for variant in files.below(endpoint):
        first, last = (f"{variant}/{moment:%Y/%m/%d/%H}" for moment in (at, now))
        for hour in (hour for day in days for hour in files.below(f"{variant}/{day:%Y/%m/%d}")):
            for path in files.below(hour) if first <= hour <= last else ():
                if path.endswith(".jsonl"):
                    yield from files.read(path).decode(errors="replace").splitlines()


def _said(text: str) -> Said | None:
    """Of a line; None for one that holds no bundle's answer: torn, of another model, an error, a mixed page."""
    line = _line(text)
    return None if line is None or line.answer.mix is not None else line


def _line(text: str) -> Said | None:
    """None for one that holds no answer."""
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
