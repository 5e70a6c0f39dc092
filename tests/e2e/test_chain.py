"""The whole chain on a tiny world, by the words of the commands Airflow runs: nothing lost, doubled or leaked.

Each stage is forked from a process that has imported everything; `tests/exactly_once` starts them as Airflow does.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from infra.stack.processes import free_ports
from jobs import config
from jobs.flow import STAGES
from jobs.lake.run import Run
from jobs.lake.store import Lake
from jobs.lake.tables import LAKE, RAW
from jobs.moment.columns import numbers, strings
from jobs.moment.decisions import candidate_columns
from jobs.moment.known import known_before
from jobs.monitor.core import with_capture
from jobs.monitor.job import IMPRESSIONS
from jobs.serving import captured
from jobs.serving.capture import CAPTURE
from models.rankers.words import unpacked
from tests.exactly_once import outside
from tests.exactly_once.forks import Forks
from tests.jobs.small_lake import empty_mlflow

pytestmark = [pytest.mark.e2e, pytest.mark.spark, pytest.mark.timeout(1500)]

FIRST, LAST = date(2026, 1, 1), date(2026, 1, 9)
TRAINED = LAST - timedelta(days=1)
EVE = TRAINED - timedelta(days=1)
SMALL = 1_000_000_000
"""So many rows has no stage here: from then on it would take Spark."""


@dataclass
class Chain:
    """One run of everything; the tests below only look at what it left."""

    home: Path
    port: int
    forks: Forks
    spark_from_rows: int = SMALL
    """The last day of the history goes through Spark whatever its size; others take the engine their size asks for."""
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """A tiny world, everything under one folder, and a gate set to let a sound challenger through."""
        return {
            **os.environ,
            "TIDEGATE_ENV": "test",
            "TIDEGATE__SPARK__FROM_ROWS": str(self.spark_from_rows),
            "TIDEGATE__LAKE__ROOT": str(self.home / "lake"),
            "TIDEGATE__LAKE__RAW": str(self.home / "raw"),
            "TIDEGATE__BUNDLES": str(self.home / "bundles"),
            "TIDEGATE__FEATURES__ONLINE_PATH": str(self.home / "online"),
            "TIDEGATE__TRACKING__URI": f"sqlite:///{self.home / 'mlflow.db'}",
            "TIDEGATE__TRACKING__ARTIFACTS": str(self.home / "artifacts"),
            "TIDEGATE__ENDPOINT__URL": f"http://127.0.0.1:{self.port}",
            "TIDEGATE__ENDPOINT__STATE": str(self.home / "endpoint"),
            "TIDEGATE__ENDPOINT__TIMEOUT_MS": "2000",
            "TIDEGATE__WORLD__LIVE_SHARE": "0.3",
            "TIDEGATE__DATASET__TRAIN_DAYS": "3",
            "TIDEGATE__GATE__MIN_LIFT": "-1",
            "TIDEGATE__GATE__MAX_LOSS_TO_LOGGING": "1",
            "TIDEGATE__GATE__MUST_NOT_FALL__LOG_LOSS": "1",
            "TIDEGATE__GATE__MUST_NOT_FALL__AUC": "1",
            "TIDEGATE__GATE__MUST_NOT_FALL__NDCG_AT_10": "1",
            "TIDEGATE__GATE__MAX_CALIBRATION_ERROR": "1",
            "TIDEGATE__GATE__MAX_SLICE_DROP": "1",
            "TIDEGATE__GATE__MAX_CONCENTRATION_RISE": "1",
            "TIDEGATE__GATE__MAX_LATENCY_MS": "10000",
            "TIDEGATE__GATE__MAX_WEIGHT_SHARE": "0.5",
            "TIDEGATE__GATE__MIN_EFFECTIVE_N": "20",
        }

    @property
    def settings(self) -> config.Config:
        return config.load(self.env)

    @property
    def lake(self) -> Lake:
        return Lake(self.settings.lake.root)

    def __call__(self, stage: str, day: date, *words: str, expect: int = 0) -> dict[str, Any]:
        started = time.monotonic()
        out, err = self.home / "stage.out", self.home / "stage.err"
        code = self.forks([stage, "--day", day.isoformat(), *words], self.env, out, err)
        key = " ".join([stage, day.isoformat(), *words])
        self.seconds[key] = time.monotonic() - started
        with (self.home / "said.log").open("ab") as said:
            said.write(out.read_bytes() + err.read_bytes())
        assert code == expect, f"{key}\n{out.read_text()[-2000:]}\n{err.read_text()[-6000:]}"
        self.reports[key] = json.loads(out.read_text().splitlines()[-1]) if expect == 0 else {"error": err.read_text()}
        return self.reports[key]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Chain]:
    """Bootstrap, weekly full training, deployment, one more day with live traffic, warm start, monitoring."""
    chain = Chain(tmp_path_factory.mktemp("chain"), *free_ports(1), forks)
    shutil.copy(empty_mlflow(tmp_path_factory.getbasetemp()), chain.home / "mlflow.db")
    command = [sys.executable, "-m", "infra.endpoint", "--port", str(chain.port)]
    log = (chain.home / "endpoint.log").open("w")
    endpoint = subprocess.Popen(command, cwd=config.ROOT, env=chain.env, stdout=log, stderr=log)
    try:
        for since, day, chain.spark_from_rows in ((FIRST, EVE, SMALL), (TRAINED, TRAINED, 0)):
            for stage in ("ingest", "validate", "attribute", "featurize"):
                chain(stage, day, "--since", since.isoformat())
        chain.spark_from_rows = SMALL
        for stage in ("assemble", "train", "backtest"):
            chain(stage, TRAINED)
        read = chain("promote", TRAINED)
        chain("deploy", TRAINED, expect=65)  # nobody has approved
        chain("deploy", TRAINED, "--approved-by", "alice", expect=65)  # nor said what they read
        bound = [f"--{name}-sha={read[f'{name}_sha256']}" for name in ("evidence", "bundle", "champion")]
        chain("deploy", TRAINED, "--approved-by", "alice", *bound)
        for stage in ("ingest", "validate", "attribute", "featurize"):
            chain(stage, LAST)
        for stage in ("assemble", "train", "backtest", "promote"):
            chain(stage, LAST, "--mode", "warm")
        for stage in ("monitor", "experiment", "reevaluate"):
            chain(stage, LAST)
        yield chain
    finally:
        endpoint.terminate()
        endpoint.wait(60)
        log.close()


def raw(chain: Chain, table: str) -> pa.Table:
    return ds.dataset(chain.home / "raw" / table, partitioning="hive").to_table()


@pytest.mark.parametrize("table", sorted(RAW))
def test_no_row_is_lost_or_doubled_on_the_way_in(chain: Chain, table: str) -> None:
    """Every raw row is either published or set aside with a reason."""
    arrived = raw(chain, table).num_rows
    kept = chain.lake.read(table).num_rows
    aside = chain.lake.read("quarantine", where={"table": table}).num_rows
    assert kept + aside == arrived
    key = RAW[table].key[0]
    rows = chain.lake.read(table, columns=[key])
    assert rows.group_by([key, "day"]).aggregate([]).num_rows == rows.num_rows


def test_every_impression_has_exactly_one_label(chain: Chain) -> None:
    """Attribution neither multiplies nor drops impressions, late ones included."""
    shown = chain.lake.read("impressions", columns=["impression_id"]).column("impression_id")
    labelled = chain.lake.read("labels", columns=["impression_id"]).column("impression_id")
    assert sorted(labelled.to_pylist()) == sorted(shown.to_pylist())


def test_every_click_is_found_again_in_the_labels(chain: Chain) -> None:
    """The clicks that name a known impression within the window are the clicked labels, no more and no fewer."""
    clicks = chain.lake.read("clicks", columns=["impression_id"]).column("impression_id")
    labels = chain.lake.read("labels", columns=["impression_id", "clicked"])
    clicked = labels.filter(pc.field("clicked")).column("impression_id")
    assert set(clicked.to_pylist()) == set(clicks.drop_null().to_pylist()) & set(labels["impression_id"].to_pylist())


def test_no_example_sees_the_future(chain: Chain) -> None:
    """Train ends before validate begins, validate before test, and no label was unknown at the cut."""
    where = {"day": TRAINED.isoformat(), "mode": "full"}
    examples = chain.lake.read("examples", where=where, columns=["split", "event_time", "clicked", "converted"])
    spans = {
        split: (pc.min(part["event_time"]).as_py().date(), pc.max(part["event_time"]).as_py().date())
        for split in ("train", "validate", "test")
        for part in [examples.filter(pc.field("split") == split)]
    }
    assert spans["test"] == (TRAINED - timedelta(days=1),) * 2
    assert spans["validate"] == (TRAINED - timedelta(days=2),) * 2
    assert spans["train"][1] == TRAINED - timedelta(days=3)
    test = examples.filter(pc.field("split") == "test")
    assert test["clicked"].null_count == 0, "the click window of the test day has closed"
    assert test["converted"].null_count == test.num_rows, "conversions may still come: unknown, whatever was heard"


def test_stages_touched_only_what_the_flow_page_names(chain: Chain) -> None:
    """jobs/flow.py against what really happened, as every commit recorded it."""
    for stage in STAGES.values():
        for table in stage.writes:
            for commit in chain.lake.history(table) if table != "raw" else []:
                writer = STAGES[commit["tidegate.stage"]]
                assert table in writer.writes
                assert set(json.loads(commit["tidegate.inputs"])) <= set(writer.reads) | set(writer.writes)
    for stage in STAGES.values():
        used = {
            name
            for table in LAKE
            for commit in chain.lake.history(table)
            if commit["tidegate.stage"] == stage.name
            for name in json.loads(commit["tidegate.inputs"])
        }
        served = {"users"} if stage.name == "featurize" else set()  # read for the online store, after the commits
        if stage.name == "deploy":  # what a watch answers again with: `tests/jobs/test_reads.py` sees it read that
            served = {"deployments", "user_features", "item_features", "encodings", "items", "users"}
        if stage.name == "reevaluate":  # no label closes so soon: `tests/jobs/reevaluate` sees it read the rest
            served = set(stage.reads) - {"evidence", "labels"}
        if stage.name == "monitor":  # for the link of its page, after the commit
            served = {"candidates"}
        if stage.name == "experiment":  # for its page, after the commit; and where a test is declared
            served = {"evidence", "promotions", "delay_curves", "quarantine", "requests"}
        if stage.name == "export":  # commits nothing, and no database is named here
            served = set(stage.reads)
        served |= {"feedback"}  # read where a further outcome is declared; here is none
        assert set(stage.reads) - {"raw"} - served <= used, f"the page names what {stage.name} never read"


def test_the_evidence_knows_its_uncertainty_and_the_truth_lies_inside(chain: Chain) -> None:
    """Offline estimates of both policies must be compatible with the world's own expectation (4 standard errors)."""
    row = chain.lake.read("evidence", where={"day": TRAINED.isoformat(), "mode": "full"}).to_pylist()[0]
    document = json.loads(row["document"])
    for side in ("champion", "challenger"):
        estimate, truth = document["value"][side], document["truth"][side]
        assert abs(estimate["value"] - truth) < 4 * estimate["stderr"], (side, estimate, truth)


def test_what_serves_is_what_was_judged_and_approved(chain: Chain) -> None:
    """One sha from the evidence through the ledger to the endpoint's answer, and a person's name beside it."""
    where = {"day": TRAINED.isoformat(), "mode": "full"}
    ledger = chain.lake.read("promotions", where=where).to_pylist()[0]
    evidence = chain.lake.read("evidence", where=where).to_pylist()[0]
    runtime = boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{chain.port}",
        region_name="eu-central-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    body = {"request_id": "r-check", "user_id": "u000001", "surface": "home", "k": 3}
    answer = json.loads(
        runtime.invoke_endpoint(EndpointName="tidegate", Body=json.dumps(body), ContentType="application/json")[
            "Body"
        ].read()
    )
    steps = chain.lake.read("deployments").to_pylist()
    assert ledger["verdict"] == "promote"
    told = [(step["step"], step["by"]) for step in steps]
    assert told == [("refused", ""), ("refused", "alice"), ("approved", "alice"), ("live", "alice")]
    assert {step["evidence_sha256"] for step in steps} == {evidence["document_sha256"]}
    assert ledger["bundle_sha256"] == evidence["bundle_sha256"] == answer["bundle_sha256"]
    assert ledger["candidate_id"] == answer["bundle_version"]
    assert len(answer["items"]) == 3


def test_live_traffic_is_logged_with_the_bundle_that_decided(chain: Chain) -> None:
    """The loop closes: the endpoint's own decisions come back as impressions with its propensities."""
    shown = chain.lake.read("impressions", [LAST], columns=["policy", "propensity"])
    ledger = chain.lake.read("promotions", where={"day": TRAINED.isoformat(), "mode": "full"}).to_pylist()[0]
    served = shown.filter(pc.starts_with(shown["policy"], ledger["candidate_id"]))
    assert 0.1 < served.num_rows / shown.num_rows < 0.5
    assert pc.min(served["propensity"]).as_py() > 0
    assert pc.max(served["propensity"]).as_py() <= 1


def test_training_and_serving_see_the_same_features(chain: Chain) -> None:
    """Skew between what the endpoint scored and what the offline features give must be nil."""
    report = {row["metric"]: row for row in chain.lake.read("serving_reports", [LAST]).to_pylist()}
    skew = next(row for name, row in report.items() if "skew" in name and "max" in name)
    assert skew["n"] > 0
    assert skew["value"] < 1e-6
    assert not skew["alarm"]


def test_mlflows_champion_says_what_the_endpoint_answered(chain: Chain) -> None:
    """Whoever loads `models:/…@champion` in a notebook has what serves: from the lake's features, the answers given."""
    import mlflow

    settings, run = chain.settings, Run(STAGES["monitor"], chain.settings, LAST)
    mlflow.set_tracking_uri(settings.tracking.uri)
    champion = mlflow.pyfunc.load_model(f"models:/{settings.tracking.model}@champion")
    shown = run.read("impressions", [LAST], columns=IMPRESSIONS)
    [ledger] = chain.lake.read("promotions", where={"day": TRAINED.isoformat(), "mode": "full"}).to_pylist()
    served = shown.filter(pc.equal(shown["policy"], ledger["candidate_id"]))
    said = captured.placements(captured.lines(settings.endpoint.state / CAPTURE / f"date={LAST}")).rows
    answered = with_capture(served, said)
    known = known_before(run, LAST, with_users=True)
    columns = candidate_columns(answered, np.arange(len(answered)), strings(answered["item_id"]), known)
    asked = pd.DataFrame({name: list(unpacked(column)) for name, column in columns.items()})
    wanted = [of.name for of in champion.metadata.get_input_schema()]
    found = champion.predict(asked[[name for name in wanted if name in asked]])
    assert len(found) > 100
    np.testing.assert_allclose(found["p_click"], numbers(answered["served_p_click"]), atol=1e-6)
    assert champion.input_example is not None
    assert len(champion.predict(champion.input_example)) == 5


def test_a_warm_start_continues_the_champion(chain: Chain) -> None:
    """The daily candidate says which champion it continued."""
    rows = chain.lake.read("candidates", where={"day": LAST.isoformat(), "mode": "warm"}).to_pylist()
    champion = chain.lake.read("promotions", where={"day": TRAINED.isoformat(), "mode": "full"}).to_pylist()[0]
    chosen = next(row for row in rows if row["chosen"])
    assert champion["candidate_id"] in {row["started_from"] for row in rows}
    assert chosen["candidate_id"].endswith(f"-warm-{LAST}")


def test_nothing_that_is_read_names_a_person(chain: Chain) -> None:
    """Logs of stages and endpoint, reports, pages, MLflow's database: no user id, which all have one form here.

    The online store is of users by their ids.
    """
    ids = re.compile(rb"(?<![\w\\])u\d{6}\b")  # not the minus sign of "\u221216"
    assert ids.fullmatch(chain.lake.read("users", columns=["user_id"])["user_id"][0].as_py().encode())
    endings = (".html", ".log", ".db", ".txt", ".md")
    pages = [path for path in chain.home.rglob("*") if path.suffix in endings and path.name != "online.db"]
    results = [path for path in (chain.home / "validations").rglob("*") if path.is_file()]
    assert {"said.log", "endpoint.log", "mlflow.db"} < {path.name for path in pages}
    assert results
    found = {str(path.relative_to(chain.home)): ids.search(path.read_bytes()) for path in {*pages, *results}}
    assert {name: match.group() for name, match in found.items() if match} == {}


def test_running_stages_again_gives_the_same_rows(chain: Chain) -> None:
    """Clearing a task is always safe: same inputs, same rows, whichever engine (Spark then, one process now).

    In which part file a row lies is each engine's own.
    """

    def rows(table: str) -> pa.Table:
        return chain.lake.read(table, where={"day": TRAINED.isoformat()}).sort_by(LAKE[table].key[0])

    before = {table: rows(table) for table in ("clicks", "labels", "item_features")}
    for stage in ("validate", "attribute", "featurize"):
        chain(stage, TRAINED)
    for table, was in before.items():
        assert rows(table).equals(was), table


def test_other_engines_read_what_spark_and_one_process_published(chain: Chain) -> None:
    """Part files of either engine are the same Delta table to DuckDB and Polars."""
    for table in LAKE:
        if chain.lake.version(table) is not None:
            expected = outside.published(chain.lake, table)
            assert outside.by_duckdb(chain.lake, table)[0] == expected, table
            assert outside.by_polars(chain.lake, table)[0] == expected, table


def test_where_the_time_went(chain: Chain) -> None:
    """Not a timing test: every stage reported its rows and seconds, which the demo prints."""
    for key, report in chain.reports.items():
        if "error" not in report:
            assert report["seconds"] >= 0, key
            assert report["rows"] >= 0, key
    print("\n".join(f"{seconds:6.1f} s  {key}" for key, seconds in chain.seconds.items()))
