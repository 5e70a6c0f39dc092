"""Whatever is sent to a container, it says why not, and answers the next good question as if nothing had been asked.

A bundle of which one byte is another is refused before it serves anybody.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.endpoint.request import MAX_BODY, MAX_CANDIDATES, NOBODY, NOTHING
from jobs import bundle
from jobs.bundle import Bundle
from jobs.config import ROOT
from jobs.errors import Refused
from tests.infra.endpoint import rig
from tests.infra.endpoint.container_rig import GOOD, Contained, contained
from tests.infra.endpoint.rig import IDS, first_stage
from tests.infra.endpoint.test_endpoint_process import environment, process

CALLS = {
    "/invocations": {"request_id": "r", "surface": "home"},
    "/rank": {"request_id": "r", "surface": "home", "candidates": IDS[:3]},
    "/candidates": {"request_id": "r", "surface": "home"},
    "/embed": {"request_id": "r", "items": IDS[:3]},
}
TRICKS = ["../../../etc/passwd", "..\\..\\x", "/dev/null", "file:///etc/passwd", "a/../b", "%2e%2e%2f", "x\x00y", "~"]


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory, boosted: Bundle) -> Iterator[Contained]:
    """Its bundle knows two surfaces."""
    knows = {**boosted.manifest, "lineage": {"surfaces": ["home", "search"]}}
    bundle = replace(boosted, manifest=knows, retrieval=first_stage("ials", "content"))
    with contained(bundle, rig.settings(tmp_path_factory.mktemp("bad"))) as made:
        yield made


@pytest.fixture(autouse=True)
def serves_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test with a container the good question has the very answer it had before."""
    if "container" not in request.fixturenames:
        yield
        return
    made: Contained = request.getfixturevalue("container")
    before = made.answer("/invocations", **GOOD)
    yield
    assert made.answer("/invocations", **GOOD) == before
    assert not before["fallback"]


def refused(container: Contained, path: str, body: bytes | dict[str, Any], status: int = 400) -> str:
    """The reason: one short line."""
    found, said = container.ask(path, body)
    assert found == status, said
    assert {*said} == {"error"}
    sentence: str = said["error"]
    assert 10 < len(sentence) < 2_000
    assert sentence.isprintable()
    return sentence


RAW = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"request_id": "\xff"}',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "two values": b"{}{}",
    "a lone surrogate": b'{"request_id": "\\ud800", "surface": "home"}',
    "a lone surrogate in a key": b'{"request_id": "r", "surface": "home", "context": {"\\udc00": "x"}}',
    "a deep list": b'{"k":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a deep object": b'{"context":' * 50_000 + b"1" + b"}" * 50_000,
    "many fields": b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}",
    "a long number": b'{"k":' + b"9" * 100_000 + b"}",
    "NaN for context": b'{"request_id": "r", "surface": "home", "context": {"device": NaN}}',
    "NaN for k": b'{"request_id": "r", "surface": "home", "k": NaN}',
    "Infinity": b'{"request_id": "r", "surface": "home", "k": Infinity}',
    "a byte too many": b" " * (MAX_BODY + 1),
}


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("name", RAW)
def test_what_is_no_request_is_refused(container: Contained, path: str, name: str) -> None:
    refused(container, path, RAW[name])


def test_a_body_may_be_as_long_as_sagemakers(container: Contained) -> None:
    """6,291,456 bytes and not one more."""
    assert MAX_BODY == 6_291_456
    good = json.dumps(GOOD).encode()
    status, found = container.ask("/invocations", good + b" " * (MAX_BODY - len(good)))
    assert (status, len(found["items"])) == (200, 3)
    assert "has at most 6291456 bytes" in refused(container, "/invocations", good + b" " * (MAX_BODY + 1 - len(good)))


FIELDS: list[tuple[str, dict[str, Any], str]] = [
    *(
        (path, {"k": k}, "k: Input should be")
        for path in CALLS
        if path != "/embed"
        for k in (0, -1, 10**6, 1.5, "3", True)
    ),
    ("/embed", {"k": 1}, "k: Extra inputs are not permitted"),
    *((path, {"surface": "hmoe"}, "surface must be one of home, search") for path in CALLS if path != "/embed"),
    *((path, {"request_id": None}, "request_id: Input should be a valid string") for path in CALLS),
    *((path, {"request_id": "  "}, "request_id: needs a character that is no space") for path in CALLS),
    *(("/invocations", {"user_id": name}, "user_id: names nobody") for name in (*NOTHING, *NOBODY)),
    *(("/invocations", {"request_id": name}, "request_id: names nobody") for name in NOTHING),
    ("/embed", {"users": ["u1", "anonymous"]}, "users.1: names nobody"),
    ("/rank", {"candidates": [IDS[0], "null"]}, "candidates.1: names nobody"),
    ("/rank", {"candidates": [IDS[0], IDS[0]]}, "candidates: must be distinct"),
    ("/rank", {"candidates": []}, "candidates: List should have at least 1 item"),
    ("/rank", {"candidates": [str(n) for n in range(MAX_CANDIDATES + 1)]}, "candidates: needs at most 1000 entries"),
    ("/rank", {"candidates": None}, "candidates: Input should be a valid array"),
    ("/candidates", {"items": [IDS[0], IDS[0]]}, "items: must be distinct"),
    ("/embed", {"items": [str(n) for n in range(MAX_CANDIDATES + 1)]}, "items: needs at most 1000 entries"),
    ("/invocations", {"user_id": "u" * 257}, "user_id: String should have at most 256"),
    ("/invocations", {"context": {"device": float("nan")}}, "context.device: Input should be a valid string"),
    ("/invocations", {"context": {"surface": "search"}}, "may not hold"),
    ("/invocations", {"event_time": "9999-12-31T23:59:59-23:00"}, "event_time must be an ISO 8601 time"),
    ("/invocations", {"__proto__": {}}, "Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("path", "fields", "sentence"), FIELDS)
def test_a_wrong_field_is_named(container: Contained, path: str, fields: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(container, path, {**CALLS[path], **fields})


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("field", ["request_id", "surface"])
def test_a_missing_field_is_named(container: Contained, path: str, field: str) -> None:
    body = {name: value for name, value in CALLS[path].items() if name != field}
    if body == CALLS[path]:
        return
    assert f"{field}: Field required" in refused(container, path, body)


@pytest.mark.parametrize("trick", TRICKS)
def test_a_name_is_only_a_name(container: Contained, trick: str) -> None:
    """Nobody is called so and nothing lies there: an unknown user, an unknown item."""
    found = container.answer("/rank", request_id=trick, user_id=trick, candidates=[IDS[0], trick])
    assert (found["request_id"], found["user_known"], found["unknown_items"]) == (trick, False, [trick])
    vectors = container.placed(users=[trick], items=[trick])
    assert [one["vector"] for one in vectors["users"] + vectors["items"]] == [None, None]
    assert "surface must be one of" in refused(container, "/invocations", {**CALLS["/invocations"], "surface": trick})


def test_somebody_unknown_and_nobody_are_answered(container: Contained) -> None:
    """A missing user is no error: the most popular items, ranked for nobody."""
    for fields in ({}, {"user_id": None}, {"user_id": "never seen"}):
        found = container.answer("/invocations", **fields)
        assert (found["retrieved_by"], found["fallback"], len(found["items"])) == ("popularity", False, 10)


@pytest.mark.parametrize("path", ["/invocations/..", "/rankings", "/Rank", "/embed/i000001", "/invocations%00"])
def test_another_path_is_not_found(container: Contained, path: str) -> None:
    assert container._client.post(path, content=b"{}").status_code == 404
    assert container._client.get("/invocations").status_code == 405


# -- the bundle -------------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_other_byte_of_any_file_is_another_bundle(
    tmp_path_factory: pytest.TempPathFactory, popular: Bundle, data: st.DataObject
) -> None:
    """The manifest's own bytes too; a byte more or less; a file more or less; a file in another's place."""
    copy = tmp_path_factory.mktemp("changed") / popular.path.name
    shutil.copytree(popular.path, copy)
    file = data.draw(st.sampled_from(sorted(path for path in copy.rglob("*") if path.is_file())))
    content = file.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(st.sampled_from(["bit", "shorter", "longer", "gone", "more", "moved"]))
    if change == "bit":
        file.write_bytes(content[:at] + bytes([content[at] ^ (1 << data.draw(st.integers(0, 7)))]) + content[at + 1 :])
    elif change == "shorter":
        file.write_bytes(content[:at])
    elif change == "longer":
        file.write_bytes(content + b" ")
    elif change == "more":
        (file.parent / "more").write_bytes(b"")
    elif change == "moved":
        file.rename(file.with_name("moved"))
    else:
        file.unlink()
    with pytest.raises(Refused):
        bundle.load(copy, popular.sha256)
    shutil.rmtree(copy)


def test_each_file_of_a_bundle_is_looked_at(tmp_path: Path, boosted: Bundle) -> None:
    """The first, a middle and the last byte of every one of them."""
    copy = tmp_path / boosted.path.name
    shutil.copytree(boosted.path, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    assert len(files) > 10
    for file in files:
        content = file.read_bytes()
        for at in np.unique([0, len(content) // 2, len(content) - 1]).tolist():
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            with pytest.raises(Refused):
                bundle.load(copy, boosted.sha256)
        file.write_bytes(content)
    assert bundle.load(copy, boosted.sha256).candidate_id == boosted.candidate_id


def test_the_process_ends_before_it_serves_a_changed_bundle(tmp_path: Path, own: Bundle) -> None:
    """Refused, with the file's name; with its byte as it was the same bundle answers, bad questions in between too."""
    file = min(path for path in (own.path / "fallback").iterdir() if path.is_file())
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    words = ("--model", str(own.path), "--sha256", own.sha256)
    command = [sys.executable, "-m", "infra.endpoint.container", "--port", "0", *words]
    changed = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment(tmp_path)}, capture_output=True, text=True, timeout=300
    )
    assert changed.returncode == Refused.exit_code
    assert f"fallback/{file.name}" in changed.stderr
    file.write_bytes(content)
    with process("infra.endpoint.container", environment(tmp_path), *words) as (_, url):
        for bad in (RAW["a deep list"], RAW["a byte too many"], b"{", json.dumps({**GOOD, "k": 10**6}).encode()):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(urllib.request.Request(f"{url}/invocations", bad), timeout=60)
            assert caught.value.code == 400
            good = urllib.request.Request(f"{url}/invocations", json.dumps(GOOD).encode())
            assert len(json.loads(urllib.request.urlopen(good, timeout=60).read())["items"]) == 3
