"""A pack belongs to one document: whatever fails on the way, its folder is the old pack whole or the new one whole."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.backtest import job as backtest
from jobs.config import Config
from jobs.errors import NotReady, Refused
from jobs.evidence import pack
from jobs.evidence.judgement import Judgement
from jobs.evidence.pack import Pack
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.promote import job as promote
from jobs.reevaluate import job as reevaluate
from tests.jobs.reevaluate.closing_lake import CANDIDATE, CLOSING, judged, labels, publish_labels, rows_judged
from tests.jobs.small_lake import DAY, a_run, publish, settings

STAGES = {"backtest": backtest.run, "promote": promote.run, "reevaluate": reevaluate.run}
THEN = {"backtest": (), "promote": ("verdict.json",), "reevaluate": ("verdict.json", "matured.json")}
"""What lies beside the evidence after each."""
WRITES = {"backtest": "evidence", "promote": "promotions", "reevaluate": "reevaluations"}


@pytest.fixture
def config(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Evidence with a verdict, and every label in."""
    made = settings(tmp_path, tmp_path_factory.getbasetemp(), gate__bootstrap_replicates="50")
    judged(made)
    publish_labels(made, labels(rows_judged(made)))
    return made


def folder(config: Config) -> Path:
    return config.bundles / f"{CANDIDATE}.evidence"


def files(config: Config) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder(config).iterdir()}


def row_of(config: Config) -> dict[str, Any]:
    [row] = Lake(config.lake.root).read("evidence", [DAY]).to_pylist()
    return dict(row)


def recorded(config: Config) -> str:
    return str(row_of(config)["document_sha256"])


def of_one_document(config: Config) -> set[str]:
    """The documents that the files of the folder are about; what a reader finds there must be one."""
    found = files(config)
    document = pack.parsed(json.dumps(json.loads(found["evidence.json"])), "test")
    others = {
        json.loads(text)["evidence_sha256"] for name, text in found.items() if name in (pack.VERDICT, pack.MATURED)
    }
    assert "evidence.html" in found
    return {pack.sha256(document), *others}


def other_clicks(config: Config) -> None:
    """Assembled again since: the next evidence on the same bundles is another one."""
    rows = Lake(config.lake.root).read("examples", [DAY]).drop_columns(["day", "mode"])
    clicked = pa.array([not value if n % 9 == 0 else value for n, value in enumerate(rows["clicked"].to_pylist())])
    at = rows.schema.get_field_index("clicked")
    publish(config, "examples", rows.set_column(at, rows.schema.field("clicked"), clicked), day=str(DAY), mode="full")


def stricter(config: Config, **gate: Any) -> Config:
    return config.model_copy(update={"gate": config.gate.model_copy(update=gate)})


def run_of(stage: str, config: Config) -> Run:
    return a_run(stage, config, CLOSING if stage == "reevaluate" else DAY)


@pytest.mark.parametrize("stage", STAGES)
def test_where_mlflow_is_down_pack_and_table_stay_and_the_next_run_replaces_both(config: Config, stage: str) -> None:
    """The pack was replaced before MLflow was asked, and the verdict that the record rests on was gone."""
    down = config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})})
    if stage == "backtest":
        other_clicks(config)
    before, version = files(config), Lake(config.lake.root).version(WRITES[stage])
    with pytest.raises(NotReady, match="MLflow must answer"):
        STAGES[stage](run_of(stage, down))
    assert (files(config), Lake(config.lake.root).version(WRITES[stage])) == (before, version)
    assert [path.name for path in config.bundles.glob(".*")] == []
    STAGES[stage](run_of(stage, config))
    assert of_one_document(config) == {recorded(config)}
    assert set(files(config)) == {"evidence.html", "evidence.json", *THEN[stage]}


@pytest.mark.parametrize("stage", STAGES)
def test_who_commits_second_leaves_the_pack_of_who_was_first(config: Config, stage: str) -> None:
    """Two runs of a day: the record is the first one's, and so is what people read."""
    late = run_of(stage, stricter(config, min_lift=0.5, min_slice_rows=400))
    STAGES[stage](run_of(stage, config))
    first = files(config)
    with pytest.raises(NotReady, match="another writer committed first and stays"):
        STAGES[stage](late)
    assert files(config) == first
    assert of_one_document(config) == {recorded(config)}


def test_other_evidence_drops_the_verdict_and_the_same_again_keeps_it(config: Config) -> None:
    reevaluate.run(run_of("reevaluate", config))
    judged_and_matured = files(config)
    assert set(judged_and_matured) == {"evidence.html", "evidence.json", "verdict.json", "matured.json"}
    backtest.run(a_run("backtest", config))
    assert files(config) == judged_and_matured
    other_clicks(config)
    backtest.run(a_run("backtest", config))
    assert set(files(config)) == {"evidence.html", "evidence.json"}
    assert of_one_document(config) == {recorded(config)}


def test_a_verdict_on_another_document_is_none_on_this(config: Config) -> None:
    """Also where somebody laid it there, or an older version of the code wrote one that does not say."""
    run, path = a_run("promote", config), folder(config) / "verdict.json"
    found = json.loads(path.read_text())
    assert pack.judgement(run, row_of(config)) == Judgement.model_validate(found)
    document = pack.parsed(files(config)["evidence.json"], "test")
    for tree in (found | {"evidence_sha256": "0" * 64}, {k: v for k, v in found.items() if k != "evidence_sha256"}):
        path.write_text(json.dumps(tree))
        assert pack.judgement(run, row_of(config)) is None
        assert set(pack.of(run, document).files) == {"evidence.html", "evidence.json"}
    path.unlink()
    assert pack.judgement(run, row_of(config)) is None


# -- kills ---------------------------------------------------------------------------------------------------------
def killed_at(moment: int, change: Callable[[], None]) -> bool:
    """Make a change in a process that dies at its n-th touch of the disk; whether it lived to the end."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def count(event: str, args: Any) -> None:
            nonlocal seen
            if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree") or (
                event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
            ):
                seen += 1
                if seen == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        change()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_killed_at_any_moment_the_folder_is_the_old_pack_or_the_new_one(config: Config) -> None:
    """And once it lived to the end, the new one; what a kill leaves beside it hinders nobody."""
    run, old = a_run("promote", config), files(config)
    document = pack.parsed(old["evidence.json"], "test")
    again = document.model_copy(update={"limitations": ["of the new one"]})
    made = pack.of(run, again)
    new = dict(made.files)
    assert set(new) == {"evidence.html", "evidence.json"}  # other evidence: nobody has judged it
    states = []
    for moment in range(1, 100):
        lived = killed_at(moment, made.put)
        states.append(files(config) == new)
        assert files(config) in (old, new), moment
        if states[-1]:
            Pack(made.folder, old).put()
        if lived:
            break
    assert moment > 4
    assert [states[0], states[-1]] == [False, True]
    assert True in states[:-1]  # killed after the exchange: already the new one


def test_evidence_of_no_schema_is_refused_with_the_place(config: Config) -> None:
    tree = json.loads(files(config)["evidence.json"])
    for change, sentence in (
        ({"schema_version": 4}, "promote needs evidence of schema_version 7; found 4: run backtest again"),
        ({"test_rows": "many"}, "promote needs evidence of its schema; found at test_rows: "),
    ):
        with pytest.raises(Refused, match=sentence):
            pack.parsed(json.dumps(tree | change), "promote")
