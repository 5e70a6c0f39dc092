"""The S3 of a stack: what was put is there after a kill, one of two writers wins, and every place is named by it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.stack import report, s3
from infra.stack.__main__ import _refuse_another
from infra.stack.airflow_api import answers
from infra.stack.components import DISK, S3, Layout, environment, storage
from infra.stack.processes import StackError
from jobs import config
from jobs.places import S3Path
from jobs.serving import artifact


@contextmanager
def served(layout: Layout) -> Iterator[None]:
    """The service as the supervisor starts it; ended by SIGKILL."""
    [service] = storage(layout, environment(layout, {}))
    child = subprocess.Popen(service.argv, cwd=config.ROOT, env={**os.environ, **service.environ})
    try:
        while not service.healthy():
            assert child.poll() is None
            time.sleep(0.1)
        yield
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def test_objects_outlive_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that is started again finds its lake; of writers at once one puts an object that is not there yet."""
    layout = Layout.at(tmp_path, S3)
    for name, value in layout.variables().items():
        monkeypatch.setenv(name, value)
    bucket = S3Path(s3.BUCKET, "")
    with served(layout):
        (bucket / "lake" / "a=1" / "part.parquet").write_bytes(b"rows")
        (bucket / "gone").write_bytes(b"x")
        (bucket / "gone").unlink()
        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(lambda n: (bucket / "claimed").write_over(str(n).encode(), None), range(4)))
        assert sum(won) == 1
        (tmp_path / "bundle").mkdir()
        (tmp_path / "bundle" / "manifest.json").write_text('{"candidate_id": "c"}')
        settings = config.load(environment(layout, {})).endpoint
        settings.state.mkdir(parents=True)
        serves = report._variant("v", {"ModelDataUrl": artifact.put(settings, tmp_path / "bundle", "sha")}, settings)
        assert (serves["candidate_id"], serves["bundle"]) == ("c", f"s3://{s3.BUCKET}/tidegate/models/sha/model.tar.gz")
        before = bucket.objects()
        tag = (bucket / "claimed").read_tagged()
    assert not answers(layout.s3)
    assert (tmp_path / "s3" / s3.BUCKET / "lake" / "a=1" / "part.parquet").read_bytes() == b"rows"
    with served(layout):
        assert [found.st_size for found in bucket.objects().values()] == [found.st_size for found in before.values()]
        assert list(bucket.objects()) == list(before)
        assert abs(bucket.objects()[bucket / "claimed"].st_mtime - before[bucket / "claimed"].st_mtime) < 2
        assert (bucket / "claimed").read_tagged() == tag, "a writer that read it before may put over it"


def test_every_place_of_a_stack_on_s3_is_there_or_cannot_be(tmp_path: Path) -> None:
    """Lake, raw days, results and bundles; the endpoint fetches its models from there too."""
    here, there = (Layout.at(tmp_path, kind) for kind in (DISK, S3))
    assert (here.s3, here.variables(), storage(here, {})) == ("", {}, [])
    found = config.load(environment(there, {}))
    for place in (found.lake.root, found.lake.raw, found.lake.results, found.bundles):
        assert isinstance(place, S3Path)
        assert place.bucket == found.endpoint.aws.bucket == s3.BUCKET
    assert environment(there, {})["AWS_ENDPOINT_URL_S3"] == there.s3 == found.endpoint.aws.s3_url
    assert there.urls()["s3"] == there.s3
    assert Layout(tmp_path, **there.urls()).settings() == there.settings(), "as `jobs` and `airflow` on a stack find it"
    assert found.lake.runs == config.load(environment(here, {})).lake.runs == tmp_path / "runs"


def test_a_stack_keeps_the_lake_it_began_with(tmp_path: Path) -> None:
    """Its MLflow and its endpoint know of what lies there."""
    _refuse_another(tmp_path, S3)
    (tmp_path / "s3").mkdir()
    _refuse_another(tmp_path, S3)
    with pytest.raises(StackError, match=r"needs the lake it began with, --lake s3; found --lake disk"):
        _refuse_another(tmp_path, DISK)


@pytest.mark.parametrize("key", ["/etc/x", "a/../../x", "."])
def test_a_key_leads_nowhere_else(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="a path below its bucket"):
        s3.file_of(tmp_path, s3.BUCKET, key)


def test_without_moto_it_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moto.server", None)
    with pytest.raises(StackError, match=r"needs moto on this machine, of the extra `dev`"):
        s3.refuse_missing()
