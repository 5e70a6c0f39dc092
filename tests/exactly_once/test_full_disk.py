"""A disk that is full or closed: the old version stays, the sentence names the trouble, space brings the rows back."""

import json
import subprocess
import sys
from typing import Any

import pytest

from jobs import config
from jobs.errors import Misconfigured, NotReady, of_the_disk
from tests.exactly_once.full_disk import TRIED

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each stage said on a small disk of its own; needs a kernel that lets users mount in a namespace."""
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        subprocess.run([*own, "mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mount namespaces here: {error}")
    home = tmp_path_factory.mktemp("disk")
    command = [*own, sys.executable, "-m", "tests.exactly_once.full_disk", str(home)]
    done = subprocess.run(command, cwd=config.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("stage", TRIED)
def test_a_full_disk_is_waited_for_and_leaves_the_old_version(said: dict[str, Any], stage: str) -> None:
    """75: the orchestrator tries again once somebody has made room; nobody reads a stack trace at night."""
    code, err, same = said[f"full {stage}"]
    assert code == 75, err
    assert err.strip().splitlines()[-1].startswith("NotReady: a stage needs free space on the disks it writes to")
    assert "Traceback" not in err
    assert same


@pytest.mark.parametrize("stage", TRIED)
def test_a_folder_that_takes_no_writes_is_a_wrong_setting(said: dict[str, Any], stage: str) -> None:
    """78: no retry helps."""
    code, err, same = said[f"read-only {stage}"]
    assert code == 78, err
    assert err.strip().splitlines()[-1].startswith("Misconfigured: a stage needs to write to the folders its settings")
    assert "Traceback" not in err
    assert same


def test_with_room_again_the_rows_are_the_same(said: dict[str, Any]) -> None:
    """What was half written before the disk was full counts for nothing."""
    assert said["freed"][2]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device"), NotReady),
        (OSError("Generic LocalFileSystem error\n ↳ Read-only file system (os error 30)"), Misconfigured),
        (PermissionError(13, "Permission denied"), Misconfigured),
        (RuntimeError("java.io.IOException: No space left on device"), NotReady),
        (KeyError("day"), None),
    ],
)
def test_whoever_wraps_it_the_systems_word_is_understood(error: Exception, kind: type[Exception] | None) -> None:
    """Arrow, delta-rs, SQLite and a JVM each have an error of their own; a bug stays a bug."""
    found = of_the_disk(error)
    assert found is None if kind is None else type(found) is kind
    assert "\n" not in str(found)
