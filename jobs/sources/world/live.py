"""Live traffic: once an endpoint is in service, a share of the users is answered by it instead of the logging policy.

What it answered is history: it is kept beside the raw lake (`_answers/date=….parquet`) and never asked again, so a day
run twice has the same rows and next week's purchases come from what was really shown. One probe, short timeouts: where
no endpoint answers, everybody meets the logging policy. Requests are sent one by one; nothing is retried.
"""

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError

from jobs.config import EndpointSettings
from jobs.errors import Misconfigured, Refused
from jobs.lake.tables import STR
from jobs.places import Place, footer, parquet, write_parquet
from jobs.serving.answer import Answer, answer_of
from jobs.sources.world.logger import Logger
from models.world import Shown, World, answered, draw_requests, show

CALLERS = 2
"""At once; a ranker takes one request at a time, and a queue would turn into fallback answers."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANSWERS = pa.schema(
    [
        ("row", pa.int64()),
        ("policy", STR),
        ("item", pa.list_(pa.int64())),  # -1: the endpoint left the place empty
        ("propensity", pa.list_(pa.float64())),  # null: it did not say
    ]
)


class LiveTraffic:
    """Asks the endpoint for a day's share of requests, remembers the answers, and tells the world what was shown."""

    def __init__(self, endpoint: EndpointSettings, raw: Place) -> None:
        self._endpoint, self._folder = endpoint, raw / "_answers"

    def shown(self, world: World, day: date) -> Shown | None:
        """What users really saw on a day with remembered answers; None where the logging policy answered everybody."""
        path = self._path(day)
        if not path.is_file():
            return None
        index = world.index(day)
        slates = show(world, index, draw_requests(world, index))
        kept = parquet(path).read()
        rows = kept.column("row").to_numpy()
        item = np.array(kept.column("item").to_pylist(), dtype=np.int64)
        propensity = np.array(kept.column("propensity").to_pylist(), dtype=np.float64)
        if item.shape != (len(rows), slates.item.shape[1]) or rows.max() >= len(slates.item):
            raise Misconfigured(
                f"{path} needs the world.* settings it was answered under; found other sizes: remove it"
            )
        return answered(slates, rows, item, propensity, kept.column("policy").to_pylist())

    def ask(self, log: Logger, day: date) -> int:
        """Have the endpoint answer the day's share of users, unless that was done before; returns how many answers."""
        path = self._path(day)
        if path.is_file():
            return int(footer(path).num_rows)
        client = self._in_service()
        if client is None:
            return 0
        rows, item, propensity, policy = self._answers(log, day, client)
        if not rows:
            return 0
        table = pa.table({"row": rows, "policy": policy, "item": item, "propensity": propensity}, schema=ANSWERS)
        write_parquet(table, path)
        return len(rows)

    def _answers(self, log: Logger, day: date, client: Any) -> tuple[list[int], list[Any], list[Any], list[str]]:
        """Row, slate, propensities and policy of each request the endpoint answered; a failed call has no row."""
        settings, index = log.world.settings, log.world.index(day)
        requests = draw_requests(log.world, index)
        size = min(settings.slate_size, requests.candidates.shape[1])
        live = live_users(log.user_ids.to_pylist(), settings.live_share)
        asked = np.flatnonzero(live[requests.user])
        bodies = [_body(row, size) for row in log.asked(index, requests).take(asked).to_pylist()]
        with ThreadPoolExecutor(CALLERS) as pool:
            responses = list(pool.map(lambda body: self._invoke(client, body), bodies))
        rows, items, propensities, policies = [], [], [], []
        for row, body, response in zip(asked, bodies, responses, strict=True):
            if response is not None:
                item, propensity, policy = slate_of(response, body, size)
                rows.append(int(row))
                items.append(item)
                propensities.append(propensity)
                policies.append(policy)
        return rows, items, propensities, policies

    def _invoke(self, client: Any, body: dict[str, Any]) -> Answer | None:
        """One answer; None where the call failed and the page fell back to the logging policy."""
        try:
            response = client.invoke_endpoint(
                EndpointName=self._endpoint.name,
                ContentType="application/json",
                Accept="application/json",
                Body=json.dumps(body).encode(),
            )
        except (BotoCoreError, ClientError):
            return None
        try:
            return answer_of(json.loads(response["Body"].read()))
        except ValueError as error:
            raise Refused(f"the endpoint must answer as its contract says; found {error}") from error

    def _in_service(self) -> Any | None:
        """A runtime client, or None where no endpoint of that name is in service."""
        import boto3

        local = urlsplit(self._endpoint.url).hostname in LOOPBACK
        # A local endpoint checks no signature, but boto3 sends nothing unsigned; and a proxy is not in between.
        session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local") if local else boto3.Session()
        patience = ClientConfig(
            connect_timeout=1,
            read_timeout=5,
            retries={"total_max_attempts": 1},
            max_pool_connections=CALLERS,
            proxies={} if local else None,
        )
        options = {"endpoint_url": self._endpoint.url, "region_name": self._endpoint.region, "config": patience}
        try:
            found = session.client("sagemaker", **options).describe_endpoint(EndpointName=self._endpoint.name)
        except (BotoCoreError, ClientError):
            return None
        return session.client("sagemaker-runtime", **options) if found["EndpointStatus"] == "InService" else None

    def _path(self, day: date) -> Place:
        return self._folder / f"date={day.isoformat()}.parquet"


def live_users(user_ids: list[str], share: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which users the endpoint answers: a hash of the id, so a user stays on one side day after day."""
    return np.array([zlib.crc32(user.encode()) / 2**32 < share for user in user_ids], dtype=bool)


def slate_of(answer: Answer, body: dict[str, Any], size: int) -> tuple[list[int], list[float | None], str]:
    """Item indices and propensities by place, and the policy's name; `Refused` where an item was not a candidate."""
    item: list[int] = [-1] * size
    propensity: list[float | None] = [None] * size
    for place in answer.items[:size]:
        if place.item_id not in body["candidates"] or not 1 <= place.position <= size:
            raise Refused(
                f"the endpoint must place candidates of {body['request_id']} at positions 1..{size}; found {place}"
            )
        item[place.position - 1] = int(place.item_id[1:])
        propensity[place.position - 1] = place.propensity
    return item, propensity, answer.policy


def _body(asked: dict[str, Any], size: int) -> dict[str, Any]:
    """The InvokeEndpoint body of one request."""
    return {
        **{name: asked[name] for name in ("request_id", "user_id", "surface", "candidates")},
        "context": {name: asked[name] for name in ("device", "region", "daypart", "query", "source_item_id")},
        "k": size,
        "event_time": asked["event_time"].isoformat(),
    }
