"""The command line: one clear sentence and the right exit code for everything one can type wrong."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from jobs.__main__ import entry
from jobs.config import ROOT
from jobs.flow import STAGES


class Ended(BaseException):
    """Where the process would have ended."""


def jobs(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m jobs …` in this process, which ends where that one would: what a stage imports takes seconds."""

    def end(code: int) -> None:
        raise Ended(code)

    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, {"TIDEGATE_ENV": "test", **variables}),
        patch.object(sys, "argv", ["jobs", *words]),
        patch.object(os, "_exit", end),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(Ended) as ended,
    ):
        entry()
    return subprocess.CompletedProcess(words, ended.value.args[0], out.getvalue(), err.getvalue())


def test_without_arguments_it_lists_the_stages() -> None:
    """The first thing a newcomer types shows the flow, left to right; in a process of its own, as Airflow runs it."""
    found = subprocess.run([sys.executable, "-m", "jobs"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0
    assert [line.split()[0] for line in found.stdout.splitlines()[1:] if line[0] != " "] == list(STAGES)


@pytest.mark.parametrize(
    ("words", "variables", "code", "sentence"),
    [
        (["atribute", "--day", "2026-01-02"], {}, 64, "found 'atribute'"),
        (["attribute", "--day", "2026-13-01"], {}, 64, "a day must be YYYY-MM-DD; found '2026-13-01'"),
        (["attribute"], {}, 64, "attribute needs --day YYYY-MM-DD; found none"),
        (["attribute", "--day", "2026-01-02", "--since", "2026-01-03"], {}, 64, "--since must not be after --day"),
        (["train", "--day", "2026-01-02", "--since", "2026-01-01"], {}, 64, "--since is for stages that publish days"),
        (["train", "--day", "2026-01-02", "--mode", "slow"], {}, 64, "invalid choice: 'slow'"),
        (["champion", "--as-of", "yesterday"], {}, 64, "a time must be YYYY-MM-DDTHH:MM"),
        (["collect", "--once"], {}, 78, "needs source.mapping.impressions.topic at least; found topics of none"),
        (["reject"], {}, 64, "reject needs --day YYYY-MM-DD; found none"),
        (["reject", "--day", "2026-01-02"], {}, 75, "reject needs a verdict; found none: run promote first"),
        (["rollback", "--day", "2026-01-02"], {}, 65, "rollback needs a person's yes, --approved-by NAME; found none"),
        (["attribute", "--day", "2026-01-02", "--dry-run"], {}, 64, "unrecognized arguments: --dry-run"),
        (["config"], {"TIDEGATE_ENV": "nowhere"}, 78, "found 'nowhere'"),
        (["config"], {"TIDEGATE__WORLD__SIZE": "3"}, 78, "world.size"),
        (["ingest", "--day", "1999-01-01"], {}, 64, "1999-01-01"),
        (["ingest", "--day", "2022-04-26"], {"TIDEGATE__SOURCE__NAME": "kuairand"}, 78, "source.data"),
    ],
)
def test_what_is_typed_wrong_is_said_in_one_sentence(
    tmp_path: Path, words: list[str], variables: dict[str, str], code: int, sentence: str
) -> None:
    """Exit codes follow sysexits, so that the orchestrator knows whether to retry without reading text."""
    places = {"TIDEGATE__LAKE__ROOT": str(tmp_path / "lake"), "TIDEGATE__LAKE__RAW": str(tmp_path / "raw")}
    found = jobs(*words, **places, **variables)
    assert found.returncode == code, found.stderr
    assert sentence in found.stderr
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.rglob("*.parquet")), "nothing is half-written"


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in ("ingest", "export", "maintain")])
def test_a_stage_whose_input_has_not_come_asks_to_be_retried(tmp_path: Path, stage: str) -> None:
    """75 means: not ready yet, try again later; and it must say which table or folder it waits for."""
    places = {"TIDEGATE__LAKE__ROOT": str(tmp_path / "lake"), "TIDEGATE__LAKE__RAW": str(tmp_path / "raw")}
    found = jobs(stage, "--day", "2026-01-05", **places)
    assert found.returncode == 75, found.stderr
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.rglob("*.parquet")), "nothing is half-written"


def test_with_nothing_to_roll_back_rollback_says_so_and_ends_well(tmp_path: Path) -> None:
    """Typed in a hurry, or twice: words, and nothing is touched; no endpoint need even be there."""
    found = jobs("rollback", "--approved-by=bob", TIDEGATE__LAKE__ROOT=str(tmp_path / "lake"))
    assert found.returncode == 0
    assert json.loads(found.stdout) == {
        "stage": "rollback",
        "nothing": "nothing to roll back: no release was ever begun",
    }


def test_the_champion_is_printed_and_was_another_before(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One JSON object, null where nothing was live; a time without a zone is UTC."""
    from tests.jobs.small_candidates import live, publish_ledger
    from tests.jobs.small_lake import settings

    config = settings(tmp_path, tmp_path_factory.getbasetemp())
    noon = datetime(2026, 1, 8, 12, tzinfo=UTC)
    first, second = (
        live({"candidate_id": name, "bundle": name, "bundle_sha256": name}, at=noon + timedelta(hours=hour))
        for hour, name in enumerate(("older", "newer"))
    )
    places = {"TIDEGATE__LAKE__ROOT": str(config.lake.root)}
    assert jobs("champion", **places).stdout == "null\n"
    publish_ledger(config, first, second)
    for words, name in (
        ([], "newer"),
        (["--as-of", "2026-01-08T12:30"], "older"),
        (["--as-of", "2026-01-08T12:30-05:00"], "newer"),
    ):
        assert json.loads(jobs("champion", *words, **places).stdout)["candidate_id"] == name
    assert jobs("champion", "--as-of", "2026-01-08", **places).stdout == "null\n"
