"""The one request that a release must answer before it is shown to anybody."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.bundle import MANIFEST
from jobs.config import EndpointSettings
from jobs.deployments.release import Release
from jobs.serving.answer import Answer, Placement
from jobs.serving.sagemaker import Endpoint


@pytest.mark.parametrize(
    ("lineage", "surface"),
    [({"surfaces": ["feed", "letter"]}, "feed"), ({"surfaces": []}, "home"), ({}, "home"), (None, "home")],
)
def test_a_release_is_asked_on_a_surface_that_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lineage: dict[str, Any] | None, surface: str
) -> None:
    """A team's surfaces have names of their own: on another the container would refuse, and nothing could go live."""
    if lineage is not None:
        (tmp_path / MANIFEST).write_text(json.dumps({"lineage": lineage}))
    release = Release("m", "2026-01-09", "full", str(tmp_path), "a" * 64, "b" * 64, "ann", "better")
    answer = Answer("r", [Placement("i", 1, 0.1, 0.1, 0.0, 1.0)], "m", "a" * 64, "m", False, None)
    asked: list[dict[str, Any]] = []

    class Runtime:
        def invoke_endpoint(self, **given: Any) -> dict[str, Any]:
            asked.append(json.loads(given["Body"]))
            return {"Body": Said()}

    class Said:
        def read(self) -> bytes:
            return b"{}"

    endpoint = Endpoint(EndpointSettings())
    monkeypatch.setattr(endpoint, "_runtime", Runtime())
    monkeypatch.setattr(endpoint, "_understood", lambda _: answer)
    endpoint.smoke(release)
    assert [body["surface"] for body in asked] == [surface]
