"""A container's application over a bundle, called without a network."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.testclient import TestClient

from infra.endpoint.container import application
from jobs.bundle import Bundle
from jobs.config import Config
from tests.infra.endpoint.rig import Memory

GOOD = {"request_id": "good", "surface": "home", "k": 3, "user_id": "u1"}


class Contained:
    """One client of one container."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self._client = TestClient(app, raise_server_exceptions=False)

    def ask(self, path: str, body: bytes | dict[str, Any]) -> tuple[int, Any]:
        """Status and what the JSON says."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        found = self._client.post(path, content=content)
        return found.status_code, found.json()

    def answer(self, path: str, **fields: Any) -> dict[str, Any]:
        """What is answered to fields beside a request id and a surface."""
        status, found = self.ask(path, {"request_id": "r", "surface": "home", **fields})
        assert status == 200, found
        answered: dict[str, Any] = found
        return answered

    def placed(self, **fields: Any) -> dict[str, Any]:
        """Vectors of users and items."""
        status, found = self.ask("/embed", {"request_id": "r", **fields})
        assert status == 200, found
        vectors: dict[str, Any] = found
        return vectors

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get("/openapi.json").json()
        return found

    def get(self, path: str) -> tuple[int, str]:
        found = self._client.get(path)
        return found.status_code, found.text


@contextmanager
def contained(bundle: Bundle, settings: Config, features: Any = None) -> Iterator[Contained]:
    """The container answers while the `with` lasts."""
    yield Contained(application(bundle, features or Memory(), settings))
