"""A capture as SageMaker writes it and clicks that lie on S3, moto's over HTTP, read as those of this machine."""

import base64
import json
import math
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config import AwsSettings, EndpointSettings, ReleaseSettings, load
from jobs.deploy import watch
from jobs.deploy.rules import of_canary
from jobs.errors import Misconfigured, NotReady
from jobs.experiment import way
from jobs.serving import answered, clicks
from jobs.serving import captured as captures
from jobs.serving.answer import Answer, Placement
from jobs.serving.capture import CAPTURE, SHADOWS, Capture
from jobs.serving.files import Folder, files
from models.experiments.assignment import Exposure
from tests import moto_server
from tests.jobs.serving.test_clicks import Log, said
from tests.moto_server import Moto

BUCKET = "captured"


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    with moto_server.serving() as found:
        found.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield found


@pytest.fixture
def aws(moto: Moto) -> EndpointSettings:
    return EndpointSettings(url="aws", name="e", aws=AwsSettings(bucket=BUCKET, s3_url=moto.url))


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 1, 9, hour, minute, tzinfo=UTC)


def line(request: str, when: datetime, sha256: str, encoded: bool, event: datetime | None = None) -> str:
    """One of SageMaker's: base64 unless the config names content types."""
    slate = [Placement("i", 1, 0.5, 0.1, 0.0, 1.0)]
    asked = {"request_id": request, "user_id": f"u-{request}", "event_time": (event or when).isoformat()}
    return as_sagemaker(asked, asdict(Answer(request, slate, "m", sha256, "v", False, None)), when, encoded)


def as_sagemaker(asked: dict[str, Any], answered: dict[str, Any], when: datetime, encoded: bool = True) -> str:
    """A line of its capture."""
    data: dict[str, Any] = {}
    for name, body in {"endpointInput": asked, "endpointOutput": answered}.items():
        text = json.dumps(body)
        found = base64.b64encode(text.encode()).decode() if encoded else text
        kind = {"observedContentType": "application/json", "mode": name.removeprefix("endpoint").upper()}
        data[name] = {**kind, "data": found, "encoding": "BASE64" if encoded else "JSON"}
    meta = {"eventId": str(asked.get("request_id")), "inferenceTime": f"{when:%Y-%m-%dT%H:%M:%SZ}"}
    return json.dumps({"captureData": data, "eventMetadata": meta, "eventVersion": "0"})


def put(moto: Moto, variant: str, hour: int, *lines: str, endpoint: str = "e") -> None:
    key = f"tidegate/capture/{endpoint}/{variant}/2026/01/09/{hour:02d}/{hour}-00-000-x.jsonl"
    moto.s3.put_object(Bucket=BUCKET, Key=key, Body="\n".join(lines).encode())


@pytest.fixture
def captured(moto: Moto) -> None:
    """A champion's variant and its shadow's, three hours of each; one line is torn, one is of no answer."""
    put(moto, "champion", 9, line("early", at(9, 59), "old", True))
    put(moto, "champion", 10, line("a", at(10), "old", True), line("b", at(10, 30), "old", False))
    put(moto, "champion", 11, line("late", at(11, 1), "old", True), "{", json.dumps({"captureData": {}}))
    put(moto, "shadow", 10, line("b", at(10, 31), "new", True), line("a", at(10, 2), "new", True)[:-20])
    put(moto, "champion", 10, line("elsewhere", at(10), "old", True), endpoint="other")


def test_a_capture_on_s3_is_read_by_the_hour(captured: None, aws: EndpointSettings) -> None:
    """Of this bundle, at this endpoint, between two moments, in their order; a shadow's lies beside the others."""
    found = answered.since(aws, CAPTURE, at(10), "old", at(11, 0))
    assert [one.answer.request_id for one in found] == ["a", "b", "late"], "the hour that has begun is looked at whole"
    assert [(one.at, one.user_id) for one in found[:2]] == [(at(10), "u-a"), (at(10, 30), "u-b")]
    assert found[0].answer.items == [Placement("i", 1, 0.5, 0.1, 0.0, 1.0)]
    assert all(math.isnan(one.ms) for one in found)
    [shadow] = answered.since(aws, SHADOWS, at(10), "new", at(11, 0))
    assert (shadow.answer.request_id, shadow.at) == ("b", at(10, 31))
    assert answered.since(aws, CAPTURE, at(12), "old", at(13)) == []


def test_a_day_on_s3_is_of_the_events(moto: Moto, aws: EndpointSettings) -> None:
    """An event just before midnight, answered just after it, is of the day before."""
    put(moto, "v", 0, line("before", at(0, 1), "day", True, datetime(2026, 1, 8, 23, 59, tzinfo=UTC)))
    put(moto, "v", 1, line("of it", at(1), "day", True))
    chunks = {day: answered.chunks(aws, date(2026, 1, day)) for day in (7, 8, 9)}
    days = {day: [one for chunk in some for one in chunk.said()] for day, some in chunks.items()}
    mine = {day: [one for one in found if one.answer.bundle_sha256 == "day"] for day, found in days.items()}
    names = {day: [one.answer.request_id for one in found] for day, found in mine.items()}
    assert names == {7: [], 8: ["before"], 9: ["of it"]}


def test_a_shadows_exposures_on_s3_move_nobody(moto: Moto) -> None:
    """It answers whom the champion answers, in the same arms: users, arms and times are the champion's alone.

    Nothing in its lines says that nobody was shown them, so which candidate answered an arm is then not told.
    """
    x = EndpointSettings(url="aws", name="x", aws=AwsSettings(bucket=BUCKET, s3_url=moto.url))
    seen = [Exposure("bigger", "large", "user")]

    def told(request: str, model: str) -> str:
        asked = {"request_id": request, "user_id": f"u-{request}", "event_time": at(10).isoformat()}
        return as_sagemaker(asked, asdict(Answer(request, [], model, model, "v", False, None, exposures=seen)), at(10))

    def found() -> tuple[pa.Table, dict[str, way.Said]]:
        exposed = captures.exposed(answered.lines(x, date(2026, 1, 9)))
        nobody_logs = exposed.append_column(way.LOGGED, pa.nulls(len(exposed), pa.bool_()))
        return exposed, way.said(nobody_logs, {"small": 0, "large": 1}, at(0))

    put(moto, "champion", 10, told("a", "old"), told("b", "old"), endpoint="x")
    alone, said_alone = found()
    put(moto, "shadow", 10, told("a", "new"), told("b", "new"), endpoint="x")
    beside, said_beside = found()
    assert (len(alone), len(beside), set(said_alone)) == (2, 4, {"u-a", "u-b"})
    assert set(beside["candidate_id"].to_pylist()) == {"old", "new"}
    assert set(beside["request_id"].to_pylist()) == set(alone["request_id"].to_pylist())
    for user, one in said_alone.items():
        other = said_beside[user]
        assert (other.first, other.arms) == (one.first, one.arms)


def test_our_own_endpoint_keeps_its_capture_here(tmp_path: Path, moto: Moto) -> None:
    """A bucket for bundles does not make it SageMaker."""
    ours = EndpointSettings(name="e", state=tmp_path, aws=AwsSettings(bucket=BUCKET, s3_url=moto.url))
    capture, began = Capture(tmp_path / CAPTURE), datetime.now(UTC)
    capture.write(date(2026, 1, 9), "e", {}, Answer("r", [], "m", "mine", "v", False, None), 2.5)
    capture.close()
    assert [one.ms for one in answered.since(ours, CAPTURE, began, "mine", datetime.now(UTC))] == [2.5]


def test_clicks_on_s3_are_those_of_a_folder(moto: Moto, aws: EndpointSettings, tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.hour(10, ["a", "b"], [("a-i", 2, "?", "?")])
    log.hour(11)
    log.hour(12)
    pq.write_table(pa.table({"impression_id": ["b-i"]}), tmp_path / "clicks/date=2026-01-08/hour=10/.part")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            key = f"raw/{path.relative_to(tmp_path).as_posix()}"
            moto.s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    ours, theirs = [said("a", 1)], [said("b", 2)]
    here = clicks.of(Folder(tmp_path), ours, theirs, 15)
    there = clicks.of(files(f"s3://{BUCKET}/raw/", aws), ours, theirs, 15)
    assert there.none_read == here.none_read == ""
    assert (there.treated.tolist(), there.clicked.tolist()) == ([True, False], [True, False])
    nowhere = clicks.of(files(f"s3://{BUCKET}/nothing", aws), ours, theirs, 15)
    assert nowhere.none_read == f"raw impressions needs an hour below s3://{BUCKET}/nothing/impressions; found none"


def test_a_watch_reads_clicks_where_the_settings_say(moto: Moto, tmp_path: Path) -> None:
    own = {"TIDEGATE_ENV": "test", "TIDEGATE__LAKE__RAW": str(tmp_path), "TIDEGATE__ENDPOINT__AWS__S3_URL": moto.url}
    assert watch.click_log(load(own)).address == str(tmp_path)
    elsewhere = watch.click_log(load({**own, "TIDEGATE__RELEASE__CLICK_LOG": f"s3://{BUCKET}/raw"}))
    assert elsewhere.address == f"s3://{BUCKET}/raw"
    assert elsewhere.below("nothing") == []


def test_s3_that_does_not_answer_is_waited_for_and_a_closed_one_is_not(moto: Moto) -> None:
    gone = EndpointSettings(url="aws", aws=AwsSettings(bucket=BUCKET, s3_url="http://127.0.0.1:9"))
    with pytest.raises(NotReady, match=f"s3://{BUCKET}/tidegate/capture must be readable"):
        answered.since(gone, CAPTURE, at(10), "old", at(11))
    with HTTPServer(("127.0.0.1", 0), Closed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        closed = EndpointSettings(url="aws", aws=AwsSettings(bucket=BUCKET, s3_url=url))
        with pytest.raises(Misconfigured, match=f"s3://{BUCKET}/tidegate/capture must be readable"):
            answered.since(closed, CAPTURE, at(10), "old", at(11))
        server.shutdown()


class Closed(BaseHTTPRequestHandler):
    """S3 that lets nobody in."""

    def do_GET(self) -> None:
        body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_times_that_nobody_knows_are_no_pass(captured: None, aws: EndpointSettings) -> None:
    """The rule of slow answers is not among those that passed, and the words say so."""
    found = answered.since(aws, CAPTURE, at(9), "old", at(11))
    why = of_canary(found, found, clicks.none("not asked"), ReleaseSettings(), 0.01).why
    assert "nobody knows how long they took" in why
    assert "slow (" not in why
