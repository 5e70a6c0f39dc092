"""What a bundle has answered at the endpoint in service: by the local endpoint's capture, or by SageMaker's on S3.

SageMaker writes `<destination>/<endpoint>/<variant>/yyyy/mm/dd/hh/<any>.jsonl` by the hour of the inference, a shadow's
answers beside those that were shown; a line holds request and answer as they were sent, as text or base64, and when,
to the second, but not how long it took. Source: the developer guide's "Data capture".
"""

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from jobs.config import EndpointSettings
from jobs.gathered import gathered
from jobs.lake.store import midnight
from jobs.serving import captured
from jobs.serving.answer import answer_of
from jobs.serving.capture import CAPTURE, SHADOWS
from jobs.serving.captured import Piece, Said
from jobs.serving.files import SCHEME, Bucket

MEMBERS = ("endpointInput", "endpointOutput")
CHUNK_BYTES = 1 << 27
"""Of lines that one worker goes through: not in memory together, but what is known of those who asked is."""


@dataclass(frozen=True)
class Chunk:
    """Some of the lines that answered the requests of a day, to be read by whoever this is given to.

    Its methods raise as `since`.
    """

    settings: EndpointSettings
    day: date
    pieces: tuple[Piece, ...]

    def lines(self) -> Iterator[str]:
        """As the local endpoint's capture writes them, for the readers of `captured`; a torn line as it was found."""
        if not _on_s3(self.settings):
            for piece in self.pieces:
                yield from captured.lines_of(piece)
            return
        for text in self._of_s3():
            line = _line(text)
            if line is None:
                yield text
            elif _is_of(line, self.day):
                told = {"request": line.request, "response": asdict(line.answer), "ms": None}
                yield json.dumps({"endpoint": self.settings.name, **told, "at": line.at.isoformat()})

    def said(self) -> Iterator[Said]:
        """What any bundle has answered, one by one."""
        if not _on_s3(self.settings):
            return captured.said(self.lines(), self.settings.name)
        found = map(_said, self._of_s3())
        return (said for said in found if said is not None and _is_of(said, self.day))

    def _of_s3(self) -> Iterator[str]:
        files = Bucket(destination(self.settings), self.settings)
        return (text for piece in self.pieces for text in _texts(files, piece.path))


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


def chunks(settings: EndpointSettings, day: date, shadows: bool = False) -> list[Chunk]:
    """All answers to the requests of a day, in the order of their files; raises as `since`.

    Those of a shadow are among them where that is asked for, and on S3 always.
    """
    if _on_s3(settings):
        files = Bucket(destination(settings), settings)
        # An event is asked about as it happens, or up to an hour after it.
        hours = midnight(day), midnight(day) + timedelta(days=1, hours=1)
        found = (Piece(path, 0, size) for path, size in _files(files, settings.name, *hours))
    else:
        kinds = (CAPTURE, SHADOWS) if shadows else (CAPTURE,)
        folders = (settings.state / kind / f"date={day}" for kind in kinds)
        found = (piece for folder in folders for piece in captured.pieces(folder, CHUNK_BYTES))
    some = gathered(found, CHUNK_BYTES, lambda piece: piece.end - piece.start)
    return [Chunk(settings, day, tuple(pieces)) for pieces in some]


def lines(settings: EndpointSettings, day: date) -> Iterator[str]:
    """Those of all `chunks`."""
    return (line for chunk in chunks(settings, day) for line in chunk.lines())


def _on_s3(settings: EndpointSettings) -> bool:
    return settings.on_aws and bool(settings.aws.bucket)


def _is_of(said: Said, day: date) -> bool:
    return said.asked_at.date() == day


def _lines(files: Bucket, endpoint: str, at: datetime, now: datetime) -> Iterator[str]:
    """Every line of the hours from one moment to another, of whatever variant."""
    return (text for path, _ in _files(files, endpoint, at, now) for text in _texts(files, path))


def _texts(files: Bucket, path: str) -> list[str]:
    return files.read(path).decode(errors="replace").splitlines()


def _files(files: Bucket, endpoint: str, at: datetime, now: datetime) -> Iterator[tuple[str, int]]:
    """The files of the hours from one moment to another, of whatever variant, and their sizes."""
    days = [at.date() + timedelta(days=n) for n in range((now.date() - at.date()).days + 1)]
    for variant in files.below(endpoint):
        first, last = (f"{variant}/{moment:%Y/%m/%d/%H}" for moment in (at, now))
        for hour in (hour for day in days for hour in files.below(f"{variant}/{day:%Y/%m/%d}")):
            found = files.sizes(hour) if first <= hour <= last else {}
            yield from ((path, size) for path, size in found.items() if path.endswith(".jsonl"))


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
