"""`python -m jobs.off_policy`: files in, one JSON object out, and one sentence for everything that can be wrong."""

import json
import subprocess
import sys
import tempfile
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
        (["--estimator", "ips", *WORDS, *WORDS[:2]], UsageError, "each NAME once; found reward=clicked and reward=c"),
        (["--estimator", "ips", *WORDS[:4], "--column", "cluster=users"], UsageError,
         "a.parquet to have the column users; found ['user', 'clicked', "),
        (["--estimator", "ips", "--column", "slate=page"], UsageError, "to have the column page; found ["),
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


@pytest.mark.parametrize("name", ["reward", "logged", "target", "cluster"])
def test_the_column_that_is_asked_for_is_read_and_not_its_namesake(
    tmp_path: Path, log: pa.Table, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file often has both: `reward` in cents and `clicked`, the reward that is meant."""
    ours = log.rename_columns(["cluster", "reward", "logged", *log.column_names[3:]])
    spoilt = ours.append_column("other", ours[name])
    spoilt = spoilt.set_column(spoilt.column_names.index(name), name, pa.array(["no number"] * len(log)))
    found = []
    for n, (rows, words) in enumerate([(ours, []), (spoilt, ["--column", f"{name}=other"])]):
        pq.write_table(rows, tmp_path / f"{n}.parquet")
        assert main([str(tmp_path / f"{n}.parquet"), "--estimator", "snips", *words]) == 0
        found.append(json.loads(capsys.readouterr().out)["finding"])
    assert found[0] == found[1]


def test_one_column_may_be_two_of_ours(folder: Path, log: pa.Table, capsys: pytest.CaptureFixture[str]) -> None:
    """`target=propensity` is the logging policy itself: what was really earned."""
    assert main([str(folder), "--estimator", "snips", *WORDS, "--column", "target=propensity"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["finding"]["value"] == pytest.approx(log["clicked"].to_numpy().mean())
    assert found["diagnostics"]["mean_weight"] == 1


def test_files_that_disagree_with_the_command_are_refused(folder: Path, log: pa.Table) -> None:
    """A column that only some files have, and one that is there twice: which of the two would be meant?"""
    pq.write_table(log.rename_columns(["user", "click", *log.column_names[2:]]), folder / "d.parquet")
    with pytest.raises(
        Refused, match=r"--column reward=clicked needs .*d.parquet to have the column clicked; found \["
    ):
        main([str(folder), "--estimator", "ips", *WORDS])
    twice = pa.table([*log.columns, log["clicked"]], names=[*log.column_names, "clicked"])
    pq.write_table(twice, folder / "d.parquet")
    with pytest.raises(Refused, match=r"d.parquet needs each column once; found clicked 2 times"):
        main([str(folder), "--estimator", "ips", *WORDS])


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("log_of_files", ["_delta_log/0.json", ".hoodie/x", "metadata/v1.metadata.json"])
def test_a_table_with_a_log_of_its_own_is_refused(folder: Path, log_of_files: str, inside: bool) -> None:
    """Its folder also holds the rows that were deleted, and every row that was ever written over."""
    path = folder / "deeper" / log_of_files if inside else folder / log_of_files
    path.parent.mkdir()
    path.write_text("{}")
    for asked in (folder, folder / "deeper"):
        with pytest.raises(Refused, match="needs to be plain Parquet files; found a table at"):
            main([str(asked), "--estimator", "ips", *WORDS])


def test_folders_that_are_called_like_files_are_looked_into(
    tmp_path: Path, log: pa.Table, capsys: pytest.CaptureFixture[str]
) -> None:
    """Spark writes `log.parquet/part-0.parquet`."""
    (tmp_path / "log.parquet").mkdir()
    pq.write_table(log, tmp_path / "log.parquet" / "part-0.parquet")
    assert main([str(tmp_path), "--estimator", "ips", *WORDS]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 1


@pytest.mark.parametrize("estimator", ["clipped_ips --clip", "switch_dr --threshold", "dros --shrinkage"])
def test_an_option_without_end_is_no_number_in_json(
    folder: Path, estimator: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is allowed (the estimator without its bound); `Infinity` in the answer is a word that other readers lack."""
    assert main([str(folder), "--estimator", *estimator.split(), "inf", *WORDS]) == 0
    text = capsys.readouterr().out
    assert "Infinity" not in text
    found = json.loads(text)
    assert (found["option"], found["not_finite"]) == (None, {"option": "inf"})
    assert main([str(folder), "--estimator", "ips" if "clip" in estimator else "dr", *WORDS]) == 0
    same(found["finding"], json.loads(capsys.readouterr().out)["finding"])


@pytest.mark.parametrize("above", [2.0**-52, 2e-10, 2.0**-23, 2.0**-21])
def test_a_probability_a_rounding_above_one_is_one(
    tmp_path: Path, above: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """Certain choices of a policy that adds up in single precision; a little more is refused, and not called 1."""
    rng = np.random.default_rng(0)
    certain = rng.random(900) < 0.3
    columns = {"reward": (rng.random(900) < 0.2).astype(float), "logged": np.where(certain, 1.0, 0.5)}
    columns["target"] = np.where(certain, 1.0, rng.uniform(0.3, 0.7, 900))

    def told(extra: float) -> dict[str, Any]:
        moved = {name: np.where(certain & (name != "reward"), a + extra, a) for name, a in columns.items()}
        pq.write_table(pa.table(moved), tmp_path / "x.parquet")
        assert main([str(tmp_path), "--estimator", "snips"]) == 0
        return {k: v for k, v in json.loads(capsys.readouterr().out).items() if k != "seconds"}

    assert told(above) == told(0.0)
    with pytest.raises(Refused, match=r"logged needs probabilities in \(0, 1\]; found 1\.000001 in row"):
        told(1e-6)


def test_names_that_are_no_utf8_are_names(tmp_path: Path, log: pa.Table, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids of another encoding tell users apart as well as any; Arrow hands them over unread."""
    odd = pa.array([user.as_py().encode() + b"\xff" for user in log["user"]]).view(pa.string())
    pq.write_table(log.set_column(0, "user", odd), tmp_path / "x.parquet")
    assert main([str(tmp_path), "--estimator", "snips", *WORDS]) == 0
    same(json.loads(capsys.readouterr().out)["finding"], snips(**arrays(log)))


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


def test_a_bug_is_told_from_the_data() -> None:
    """70, with the traceback for whoever mends it and a last line that says whose fault it is: as for every stage."""
    program = "from jobs.errors import run_as_command\nfrom jobs.off_policy import __main__ as m\n"
    program += "m.answered = lambda *_: 1 / 0\nrun_as_command(m.main)"
    path = "tests/jobs/off_policy/nothing.parquet"
    words = ["--estimator", "ips"]
    asked = subprocess.run([sys.executable, "-c", program, path, *words], cwd=ROOT, capture_output=True, text=True)
    assert asked.returncode == 64, "what is wrong with the command is still said first"
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/x.parquet"
        pq.write_table(pa.table({name: [0.5, 0.5] for name in ("reward", "logged", "target")}), path)
        asked = subprocess.run([sys.executable, "-c", program, path, *words], cwd=ROOT, capture_output=True, text=True)
    assert (asked.returncode, asked.stdout) == (70, "")
    last = "Crashed: a bug in Tidegate, not in your data: ZeroDivisionError: division by zero"
    assert asked.stderr.splitlines()[-1] == last


@pytest.mark.spark
def test_spark_reads_what_the_stream_reads(
    tmp_path: Path, log: pa.Table, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders whose names look like patterns, columns whose names look like paths, types that Spark lacks or renames.

    Columns that nobody asks for may be of any kind.
    """
    monkeypatch.setenv("TIDEGATE__SPARK__DRIVER_MEMORY_MB", "768")
    folder, decoy = tmp_path / "run[1]{a,b}", tmp_path / "run1a"
    for path in (folder, decoy):
        path.mkdir()
    ids = np.unique(log["user"].to_numpy(), return_inverse=True)[1].astype(np.uint64) * np.uint64(2**63 // 300)
    odd = pa.table(
        {
            "re.ward`x": log["clicked"].cast(pa.uint8()),
            "Reward": log["user"],
            "reward": log["user"],
            "logged": log["propensity"].cast(pa.decimal128(4, 2)),
            "p t": log["target"],
            "cluster": ids,
            "at": pa.array(np.arange(len(log)), pa.timestamp("ns")),
            "half": pa.array(np.ones(len(log), np.float16)),
        }
    )
    pq.write_table(odd, folder / "a.parquet")
    pq.write_table(odd.set_column(0, "re.ward`x", pa.array(np.ones(len(log), np.uint8))), decoy / "a.parquet")
    words = [str(folder), "--estimator", "snips", "--column", "reward=re.ward`x", "--column", "target=p t"]
    said = []
    for more in ([], ["--spark"]):
        assert main([*words, "--bootstrap", *more]) == 0
        said.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    for part in ("finding", "bootstrap", "diagnostics"):
        same(said[1][part], said[0][part])
    same(said[0]["finding"], snips(**arrays(log)))
    with pytest.raises(Refused, match="reward needs a type that Spark knows; found halffloat: leave --spark out"):
        main([str(folder), "--estimator", "ips", "--column", "reward=half", "--column", "target=p t", "--spark"])


@pytest.mark.spark
def test_spark_says_in_a_sentence_that_a_file_is_broken(
    tmp_path: Path, log: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its footer is whole, so only whoever reads the rows finds out; without Spark it is the same exit code."""
    monkeypatch.setenv("TIDEGATE__SPARK__DRIVER_MEMORY_MB", "768")
    path = tmp_path / "x.parquet"
    pq.write_table(log, path)
    data = bytearray(path.read_bytes())
    for at in range(8, 4_000, 5):
        data[at] ^= 0x5A
    path.write_bytes(data)
    for more in ([], ["--spark"]):
        with pytest.raises(Refused, match="to be readable; found: ") as raised:
            main([str(path), "--estimator", "ips", *WORDS, *more])
        assert len(str(raised.value).splitlines()) == 1


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
