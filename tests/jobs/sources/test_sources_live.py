"""Live traffic: the endpoint's share of users sees its slates, once, and the world reacts to what was shown."""

import json
import threading
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs import config
from jobs.errors import Refused
from jobs.flow import STAGES
from jobs.ingest.job import run
from jobs.lake.run import Run
from jobs.serving.answer import Answer, Placement
from jobs.sources.world.live import live_users, slate_of

DAY = date(2026, 1, 3)


class SpokenSageMaker(BaseHTTPRequestHandler):
    """The two operations in the protocol an unmodified boto3 speaks; a policy that reverses the candidates."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/":
            answer = {"EndpointName": body["EndpointName"], "EndpointStatus": self.server.status}
        else:
            self.server.asked.append(body)
            chosen = body["candidates"][::-1][: body["k"]]
            items = [
                {
                    "item_id": item,
                    "position": n + 1,
                    "score": 0.1,
                    "p_click": 0.1,
                    "p_conversion": 0.0,
                    "propensity": 0.5,
                }
                for n, item in enumerate(chosen)
            ]
            fallback = body["request_id"].endswith("7")
            answer = {"items": items, "bundle_version": "tuned-2026-01-02", "bundle_sha256": "s", "variant": "live"}
            answer |= {"fallback": fallback, "request_id": body["request_id"], "features_day": None}
        payload = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format, *args):
        """Quiet."""


@pytest.fixture
def endpoint():
    """A loopback server of the protocol, in service."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), SpokenSageMaker)
    server.status, server.asked = "InService", []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def ingest(root, day, url, since=None):
    """One run against an endpoint at `url`, with a fifth of the users live."""
    conf = config.load(
        {
            "TIDEGATE_ENV": "test",
            "TIDEGATE__LAKE__ROOT": str(root / "lake"),
            "TIDEGATE__LAKE__RAW": str(root / "raw"),
            "TIDEGATE__ENDPOINT__URL": url,
            "TIDEGATE__WORLD__LIVE_SHARE": "0.2",
        }
    )
    return run(Run(STAGES["ingest"], conf, day, since))


def rows(root, name, day):
    """A day of a raw table."""
    return pa.concat_tables([pq.ParquetFile(p).read() for p in sorted((root / "raw" / name).glob(f"date={day}/*/*"))])


def content(root):
    """Every event file by relative path."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / "raw").rglob("*.parquet"))}


def test_the_endpoints_users_see_its_slates_and_only_they(tmp_path, endpoint):
    """An A/B by user: policy, propensity and place in the log are the endpoint's; others keep the logging policy."""
    url = f"http://127.0.0.1:{endpoint.server_port}"
    counts = ingest(tmp_path, DAY, url)
    shown = rows(tmp_path, "impressions", DAY)
    live = shown.filter(pc.starts_with(shown.column("policy"), "tuned"))
    assert counts["live_requests"] == len(endpoint.asked) > 20
    assert set(live.column("propensity").to_pylist()) == {0.5}
    assert set(live.column("policy").to_pylist()) == {"tuned-2026-01-02", "tuned-2026-01-02+fallback"}
    users = shown.column("user_id").unique().to_pylist()
    chosen = {user for user, is_live in zip(users, live_users(users, 0.2), strict=True) if is_live}
    assert set(live.column("user_id").to_pylist()) == chosen
    others = shown.filter(pc.equal(shown.column("policy"), "logging"))
    assert not chosen & set(others.column("user_id").to_pylist())
    body = endpoint.asked[0]
    first = live.filter(pc.equal(live.column("request_id"), body["request_id"])).sort_by("position")
    assert pc.unique(first.column("item_id")).to_pylist() == body["candidates"][::-1][: body["k"]]
    assert body["context"].keys() == {"device", "region", "daypart", "query", "source_item_id"}
    assert body["event_time"].startswith(f"{DAY}T")


def test_what_was_shown_stays_shown_when_the_endpoint_is_gone(tmp_path, endpoint):
    """Run again after a rollback: the same rows, and the next days' purchases still come from the slates people saw."""
    url = f"http://127.0.0.1:{endpoint.server_port}"
    ingest(tmp_path, DAY, url)
    asked, before = len(endpoint.asked), content(tmp_path)
    ingest(tmp_path, DAY, url)
    ingest(tmp_path, DAY, "http://127.0.0.1:9")
    assert len(endpoint.asked) == asked
    assert content(tmp_path) == before
    shown = set(rows(tmp_path, "impressions", DAY).column("impression_id").to_pylist())
    item_of = dict(
        zip(
            *(rows(tmp_path, "impressions", DAY).column(c).to_pylist() for c in ("impression_id", "item_id")),
            strict=True,
        )
    )
    for later in (1, 6):
        ingest(tmp_path, DAY + timedelta(days=later), "http://127.0.0.1:9")
        bought = rows(tmp_path, "purchases", DAY + timedelta(days=later))
        for purchase, item in zip(*(bought.column(c).to_pylist() for c in ("purchase_id", "item_id")), strict=True):
            impression = purchase.removeprefix("p-")
            if impression in shown:
                assert item_of[impression] == item


def test_a_bootstrap_range_and_an_endpoint_out_of_service_meet_the_logging_policy(tmp_path, endpoint):
    """History was not served by a model that did not exist yet; an endpoint being created answers nobody."""
    url = f"http://127.0.0.1:{endpoint.server_port}"
    assert ingest(tmp_path / "range", DAY, url, since=date(2026, 1, 1))["live_requests"] == 0
    endpoint.status = "Creating"
    assert ingest(tmp_path / "creating", DAY, url)["live_requests"] == 0
    assert endpoint.asked == []
    assert ingest(tmp_path / "refused", DAY, "http://127.0.0.1:9")["live_requests"] == 0


def answered(item: str) -> Answer:
    """One placement whose propensity is not said."""
    return Answer("r", [Placement(item, 1, 0.1, 0.1, 0.0, None)], "m", "s", "live", False, None)


def test_an_item_nobody_offered_is_refused():
    """A slate from outside the candidates could not be re-weighted later."""
    with pytest.raises(Refused, match="i000009"):
        slate_of(answered("i000009"), {"request_id": "r", "candidates": ["i000001"]}, 2)


def test_places_left_empty_stay_empty():
    """A short answer is logged as it was, with unknown propensities unknown."""
    found = slate_of(answered("i000001"), {"request_id": "r", "candidates": ["i000001"]}, 2)
    assert found == ([1, -1], [None, None], "m")
