"""CloudWatch's alarms by name, asked through an unmodified boto3: what an update is rolled back by."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from jobs.aws import made
from jobs.config import EndpointSettings

ASK_SECONDS = 1.0
"""Sooner than so nothing new is asked: CloudWatch itself evaluates every ten seconds at most."""
SAY_SECONDS = 60.0
KINDS = ("MetricAlarm", "CompositeAlarm")
_log = logging.getLogger(__name__)


def alarms_of(settings: EndpointSettings) -> Callable[[Sequence[str]], Mapping[str, str]] | None:
    """Asks the CloudWatch that the settings name; None where they name none."""
    return CloudWatch(settings.alarms_url, settings.region).states if settings.alarms_url else None


class CloudWatch:
    """The alarms of one CloudWatch, asked once a second at most."""

    def __init__(self, url: str, region: str) -> None:
        self._url = url
        self._region = region
        self._asked: dict[tuple[str, ...], tuple[float, Mapping[str, str]]] = {}
        self._said = float("-inf")

    def states(self, names: Sequence[str]) -> Mapping[str, str]:
        """OK, ALARM or INSUFFICIENT_DATA by name; an alarm that is not there, or cannot be asked, has no state."""
        from botocore.exceptions import BotoCoreError, ClientError

        now = time.monotonic()
        at, found = self._asked.get(tuple(names), (float("-inf"), {}))
        if now - at < ASK_SECONDS:
            return found
        try:
            answer = self._client.describe_alarms(AlarmNames=list(names), AlarmTypes=list(KINDS))
            found = {alarm["AlarmName"]: alarm["StateValue"] for kind in KINDS for alarm in answer.get(f"{kind}s", [])}
        except (BotoCoreError, ClientError) as error:
            found = {}
            if now - self._said >= SAY_SECONDS:
                self._said = now
                _log.error("the alarms of an update need CloudWatch to answer at %s; found: %s", self._url, error)
        self._asked = {tuple(names): (now, found)}
        return found

    @cached_property
    def _client(self) -> Any:
        from botocore.config import Config

        patience = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
        return made("cloudwatch", self._region, self._url, patience)
