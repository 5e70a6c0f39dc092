"""`python -m jobs.off_policy`: files in, one JSON object out, and one sentence for everything that can be wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config import ROOT
from jobs.errors import NotReady, Refused, TidegateError, UsageError
from jobs.off_policy.__main__ import main
from models.evaluation.off_policy import diagnostics, snips, switch_dr
from models.settings import GateSettings
from tests.jobs.off_policy.logged_files import same

REFERENCE = ROOT.parent / "shared" / "data" / "open_bandit" / "reference"


@pytest.fixture
def log() -> pa.Table:
    """Six thousand decisions of five hundred users, in another team's words."""
    rng = np.random.default_rng(0)
    n = 6_000
    logged = rng.choice([0.1, 0.3, 0.6], n, p=[0.1, 0.3, 0.6])
    return pa.table(
        {
            "user": pa.array(np.char.mod("u%d", rng.integers(0, 500, n))),
            "clicked": rng.random(n) < 0.2,
            "propensity": logged,
            "target": np.full(n, 1 / 3, dtype=np.float32),
            "predicted_logged": np.full(n, 0.2),
            "predicted_target": np.full(n, 0.2),
        }
    )


WORDS = ["--column", "reward=clicked", "--column", "logged=propensity", "--column", "cluster=user"]


@pytest.fixture
def folder(tmp_path: Path, log: pa.Table) -> Path:
    """Three files, one of them empty, and one that is not to be read."""
    (tmp_path / "deeper").mkdir()
    pq.write_table(log.slice(0, 2_500), tmp_path / "a.parquet", row_group_size=700)
    pq.write_table(log.slice(0, 0), tmp_path / "b.parquet")
    pq.write_table(log.slice(2_500), tmp_path / "deeper" / "c.parquet")
    (tmp_path / "_half.parquet").write_bytes(b"being written")
    return tmp_path


def arrays(log: pa.Table) -> dict[str, Any]:
    return {
        "reward": log["clicked"].to_numpy().astype(float),
        "logged": log["propensity"].to_numpy(),
        "target": log["target"].to_numpy(),
        "clusters": np.unique(log["user"].to_numpy(), return_inverse=True)[1],
    }


def test_it_prints_what_the_library_says(folder: Path, log: pa.Table, capsys: pytest.CaptureFixture[str]) -> None:
    """Estimate, bootstrap and diagnostics of all files as if they were one array, by the gate's settings."""
    assert main([str(folder), "--estimator", "snips", *WORDS, "--bootstrap"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = snips(**arrays(log), settings=GateSettings())
    same(found["finding"], expected)
    trust = diagnostics(**{k: a for k, a in arrays(log).items() if k != "reward"})
    same(found["diagnostics"], trust)
    assert found["bootstrap"]["stderr"] == pytest.approx(found["finding"]["stderr"], rel=0.2)
    assert (found["files"], found["rows"], found["clustered"]) == (3, 6_000, True)


def test_an_estimator_with_model_and_option(folder: Path, log: pa.Table, capsys: pytest.CaptureFixture[str]) -> None:
    """The option goes where it belongs; a single file will do."""
    path = folder / "all.parquet"
    pq.write_table(log, path)
    assert main([str(path), "--estimator", "switch_dr", "--threshold", "2", *WORDS[:4]]) == 0
    found = json.loads(capsys.readouterr().out)["finding"]
    model = {name: log[name].to_numpy() for name in ("predicted_logged", "predicted_target")}
    plain = {name: array for name, array in arrays(log).items() if name != "clusters"}
    same(found, switch_dr(**plain, **model, threshold=2.0))


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs ../shared/data/open_bandit/reference")
@pytest.mark.parametrize(
    ("words", "theirs"),
    [(["ips"], "ipw"), (["snips"], "snipw"), (["sndr"], "sndr"), (["dros", "--shrinkage", "10"], "dr-os_lambda10")],
)
def test_a_real_log_gives_the_reference_estimate(
    tmp_path: Path, words: list[str], theirs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Open Bandit's men campaign as a file, in its pipeline's words: the guard lets it pass, to its figure, to 1e-9."""
    with np.load(REFERENCE / "inputs_random_to_bts_men.npz") as z:
        rows, action, position = np.arange(len(z["action"])), z["action"], z["position"]
        target, q_hat = z["action_dist_single_round"], z["q_hat"]
        log = {
            "reward": z["reward"],
            "pscore": z["pscore"],
            "target": target[action, position],
            "predicted_logged": q_hat[rows, action, position],
            "predicted_target": (q_hat[rows, :, position] * target[:, position].T).sum(axis=1),
        }
    pq.write_table(pa.table(log), tmp_path / "men.parquet")
    assert main([str(tmp_path), "--column", "logged=pscore", "--estimator", *words]) == 0
    results = json.loads((REFERENCE / "obp_reference.json").read_text())["results"]
    (expected,) = [r for r in results if (r["behavior_policy"], r["campaign"]) == ("random", "men")]
    found = json.loads(capsys.readouterr().out)["finding"]
    assert found["value"] == pytest.approx(expected["estimates"][theirs], abs=1e-9)


@pytest.mark.parametrize(
    ("words", "kind", "sentence"),
    [
        ([], UsageError, "the following arguments are required: --estimator"),
        (["--estimator", "snip"], UsageError, "an estimator must be one of ips, snips"),
        (["--estimator", "dros", "--clip", "3"], UsageError, "--clip is not an option of dros; it takes shrinkage"),
        (["--estimator", "dros"], UsageError, "dros needs shrinkage; found none"),
        (["--estimator", "ips", "--column", "rewards=x"], UsageError, "--column needs NAME=FOUND with NAME one of"),
        (["--estimator", "ips", *WORDS[:4], "--bootstrap"], UsageError, "needs the column cluster; found none"),
        (["--estimator", "ips"], Refused, "needs the columns reward, logged, target; missing reward, logged, found"),
        (["--estimator", "iips", *WORDS], Refused, "missing slate, position, found"),
        (["--estimator", "ips", *WORDS[:2], "--column", "logged=user"], Refused, "logged needs numbers; found string"),
        (["--estimator", "ips", *WORDS[:4], "--column", "cluster=propensity"], Refused, "needs text or whole numbers"),
        (["--estimator", "ips", "--column", "reward=clicked", "--column", "logged=clicked"], Refused,
         "logged needs probabilities in (0, 1]; found "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(
    folder: Path, words: list[str], kind: type[TidegateError], sentence: str
) -> None:
    """Wrong commands are 64, files that do not hold what is needed 65."""
    with pytest.raises(kind) as raised:
        main([str(folder), *words])
    assert sentence in str(raised.value)


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    """No such path is a wrong command, an empty folder is not ready yet, something else than Parquet is refused."""
    with pytest.raises(UsageError, match="found nothing at"):
        main([str(tmp_path / "nowhere"), "--estimator", "ips"])
    with pytest.raises(NotReady, match=r"needs \*\.parquet files; found none"):
        main([str(tmp_path), "--estimator", "ips"])
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(Refused, match="needs to be a Parquet file; found"):
        main([str(tmp_path), "--estimator", "ips"])


def test_files_that_name_users_differently_are_refused(folder: Path, log: pa.Table) -> None:
    """User 7 and user "7" would count as two; on Spark every column must be of one type, or the reader would crash."""
    numbered = log.set_column(0, "user", pa.array(np.arange(len(log))))
    pq.write_table(numbered, folder / "d.parquet")
    with pytest.raises(Refused, match="cluster needs one type in all files; found int64 and string"):
        main([str(folder), "--estimator", "ips", *WORDS])
    pq.write_table(log.set_column(3, "target", log["target"].cast(pa.float64())), folder / "d.parquet")
    with pytest.raises(Refused, match="target needs one type in all files; found double and float"):
        main([str(folder), "--estimator", "ips", *WORDS, "--spark"])


def test_exit_codes_and_streams(folder: Path) -> None:
    """As a shell sees it: one line of JSON and 0, or one sentence on stderr and the code."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobs.off_policy", str(folder), *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    good = run("--estimator", "snips", *WORDS)
    assert (good.returncode, good.stderr) == (0, "")
    assert "value" in json.loads(good.stdout)["finding"]
    bad = run("--estimator", "snips")
    assert (bad.returncode, bad.stdout) == (65, "")
    assert bad.stderr.startswith("Refused: ")
    assert len(bad.stderr.splitlines()) == 1


@pytest.mark.spark
def test_spark_prints_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the seconds differ."""
    words = [str(folder), "--estimator", "sndr", *WORDS, "--bootstrap"]
    said = []
    for more in ([], ["--spark"]):
        assert main([*words, *more]) == 0
        said.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    here, there = said
    for part in ("finding", "bootstrap", "diagnostics"):
        same(there[part], here[part])
    assert {k: v for k, v in here.items() if not isinstance(v, dict | float)} == {
        k: v for k, v in there.items() if not isinstance(v, dict | float)
    }
