"""One configuration tree: unknown keys fail, every override has one place, the digest follows the meaning."""

import json
import tomllib
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from jobs.config import ROOT, Config, load
from jobs.config.base import without_password
from jobs.errors import Misconfigured
from jobs.flow import STAGES
from models.settings import GateSettings, Settings

ENVIRONMENTS = sorted(path.stem for path in (ROOT / "infra" / "env").glob("*.toml"))
OTHER: dict[str, Any] = {
    "source.name": "open-bandit",
    "source.daily": ["purchases"],
    "features.online": True,
    "source.live": True,
    "source.url": "postgresql://elsewhere/shop",
    "source.kafka.properties": {"client.id": "elsewhere"},
    "training.instance_type": "ml.m5.large",
    "training.most_rows": 1_000,
    "spark.conf": {"spark.executor.cores": "4"},
    "export.url": "postgresql://elsewhere/told",
    "export.tables": ["labels"],
    "export.prefix": "ours_",
    "source.mapping": {"clicks": {"files": "*.csv", "columns": {"click_id": "id"}}},
    "airflow.database": "postgresql://elsewhere",
    "airflow.pools": {"training": 3},
    "airflow.queues": {"train": "big"},
    "airflow.pods": {"train": {"cpu": 8}},
    "airflow.logs": "s3://elsewhere/logs",
    "attribution.window": "6h",
    "attribution.click_window": "90m",
    "lake.stale_hours": 30,
    "outcomes": {"like": {"kind": "value", "unit": "s"}},
    "gate.outcomes_must_not_fall": {"like.auc": 0.01},
    "gate.estimators": ["pages"],
    "ranker.kinds": ["crosses"],
    "gate.must_rise": ["map_at_10"],
    "gate.confidence": 0.9,
    "monitoring.max_calibration": 1.5,
    "retrieval.confidence": 0.9,
    "retrieval.kinds": ["ease"],
    "gate.slice_metric": "log_loss",
    "policy.score_weights": {"click": 1.0, "conversion": 20.0},
    "attribution.surfaces": {"search": {"click_window_days": 1}},
    "dataset.without_surfaces": ["suggest"],
    "policy.heuristics.boosts": [{"of": "item.brand", "word": "a", "times": 2.0}],
    "policy.heuristics.blocks": [{"words": ["a"]}],
    "policy.heuristics.caps": [{"most": 2}],
    "policy.heuristics.repeats": [{"times": 0.5}],
    "policy.surfaces": {"search": {"temperature": 0.25}},
    "tasks.of_surface": {"feed": "recommend"},
    "world.slate_size": 3,
    "release.canary_percent": [10, 50],
    "release.approvers": ["somebody"],
    "endpoint.surfaces": {"home": {"k": 4}},
    "endpoint.aws.alarm_seconds": 120,
    "experiments": [{"name": "one", "arms": {"control": {}, "other": {}}, "start": "2026-01-01"}],
}
"""Another value of what has no obvious one."""

REACHES = {
    "source.name": "ingest",
    "source.mapping": "ingest",
    "world": "ingest",
    "attribution.click_window_days": "validate",
    "attribution.click_window": "validate",
    "attribution.late_days": "validate",
    "attribution": "attribute",
    "outcomes": "attribute",
    "features.long_term_days": "featurize",
    "features.prior_impressions": "featurize",
    "features.available_after_hours": "featurize",
    "features.session_gap_minutes": "featurize",
    "features.encoding_prior_impressions": "featurize",
    "features.encoding_min_impressions": "featurize",
    "dataset": "assemble",
    "delays": "train",
    "warm": "train",
    "training.most_rows": "train",
    "tasks": "assemble",
    "ranker": "train",
    "retrieval": "train",
    "policy": "train",
    "gate": "train",
    "monitoring": "monitor",
    "experiments": "experiment",
}
"""The first stage whose rows a setting, or all of a group, can change; what is not here changes none."""


def groups(group: type[BaseModel] = Config, path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every group of settings below `group`, by its path."""
    for name, field in group.model_fields.items():
        kinds = () if get_origin(field.annotation) in (dict, tuple) else get_args(field.annotation)
        for kind in (field.annotation, *kinds):
            if isinstance(kind, type) and issubclass(kind, Settings):
                yield path + name, kind
                yield from groups(kind, f"{path}{name}.")


GROUPS = dict(groups())
LEAVES = [
    *(name for name in Config.model_fields if name not in GROUPS),
    *(f"{path}.{name}" for path, group in GROUPS.items() for name in group.model_fields),
]
LEAVES = [leaf for leaf in LEAVES if leaf not in GROUPS]


def value(config: Config, path: str) -> Any:
    """A setting by its path."""
    found: Any = config
    for name in path.split("."):
        found = getattr(found, name)
    return found


def another(config: Config, path: str) -> Any:
    """A value this setting may have and has not, as JSON has it."""
    group = GROUPS[path.rpartition(".")[0]] if "." in path else Config
    kinds = get_args(group.model_fields[path.rpartition(".")[2]].annotation) or ()
    found = value(config, path)
    literals = [choice for kind in (*kinds,) for choice in (get_args(kind) or (kind,)) if isinstance(choice, str)]
    if path in OTHER:
        return OTHER[path]
    if literals:
        return next(choice for choice in literals if choice != found)
    if type(None) in kinds and found is not None:
        return None
    if isinstance(found, bool):
        return not found
    if isinstance(found, int):
        return found + 1
    if isinstance(found, float):
        return found / 2 or 0.5
    if isinstance(found, date):
        return str(found + timedelta(days=1))
    if isinstance(found, str | Path):
        return f"{found}-elsewhere"
    return {Path: "/elsewhere", str: "elsewhere", int: 5, float: 0.25}[
        next(kind for kind in kinds if kind is not type(None))
    ]


def variable(path: str) -> str:
    """The environment variable of a setting."""
    return "TIDEGATE__" + path.replace(".", "__").upper()


def test_the_environment_overrides_the_file_and_the_file_the_default() -> None:
    """The three layers in their order, so that an operator knows which one wins."""
    assert load({}).world.users == Config().world.users
    assert load({"TIDEGATE_ENV": "test"}).world.users == 300
    assert load({"TIDEGATE_ENV": "test", "TIDEGATE__WORLD__USERS": "77"}).world.users == 77
    assert load({"TIDEGATE__GATE__ESTIMATORS": '["dr", "pages"]'}).gate.estimators == ("dr", "pages")


def needed(leaf: str) -> dict[str, str]:
    """What must be set for a setting to mean anything."""
    rows = {variable("dataset.selection.max_train_rows"): "9"} if "shares" in leaf else {}
    if leaf == "gate.profile":
        return {variable("gate.must_rise"): '["auc"]'}
    return rows | ({variable("outcomes"): '{"like": {}}'} if leaf == "gate.outcomes_must_not_fall" else {})


def flat(config: Config) -> dict[str, Any]:
    """Every setting by its path."""
    return {leaf: value(config, leaf) for leaf in LEAVES}


@pytest.mark.parametrize("env", ENVIRONMENTS)
@pytest.mark.parametrize("group", GROUPS)
def test_an_override_of_a_group_changes_what_it_names_and_nothing_else(group: str, env: str) -> None:
    """One key as JSON used to throw away what the file says of the whole group: all of production's gate."""
    outermost, *between = group.split(".")
    for leaf in (leaf for leaf in LEAVES if leaf.rpartition(".")[0] == group):
        given = {"TIDEGATE_ENV": env} | needed(leaf)
        before = load(given)
        nested: Any = {leaf.rpartition(".")[2]: another(before, leaf)}
        after = load({**given, variable(group): json.dumps(nested)})
        assert {path for path, found in flat(after).items() if found != value(before, path)} == {leaf}
        for key in reversed(between):
            nested = {key: nested}
        assert load({**given, variable(outermost): json.dumps(nested)}) == after


@pytest.mark.parametrize(
    ("variables", "path", "found"),
    [
        ({"TIDEGATE__GATE__MAX_SKEW": "null"}, "gate.max_skew", None),
        ({"TIDEGATE__GATE": '{"max_skew": null}'}, "gate.max_skew", None),
        ({"TIDEGATE__SOURCE__DATA": "null"}, "source.data", None),
        ({"TIDEGATE__SOURCE__DATA": '"null"'}, "source.data", Path("null")),
        ({"TIDEGATE__SOURCE__DATA": "/data/a b"}, "source.data", Path("/data/a b")),
        ({"TIDEGATE__TRACKING__MODEL": "null"}, "tracking.model", "null"),
        ({"TIDEGATE__TRACKING__MODEL": "7"}, "tracking.model", "7"),
        ({"TIDEGATE__GATE": '{"risk_days": 3}', "TIDEGATE__GATE__RISK_DAYS": "5"}, "gate.risk_days", 5),
        ({"TIDEGATE__GATE": '{"must_not_fall": {"auc": 0.1}}', "TIDEGATE__GATE__MUST_NOT_FALL": '{"auc": 0.2}'},
         "gate.must_not_fall.auc", 0.2),
        ({"TIDEGATE__GATE__MUST_NOT_FALL__AUC": "null"}, "gate.must_not_fall.auc", None),
        ({"TIDEGATE__TASKS__OF_SURFACE": '{"feed": "recommend"}'}, "tasks.of_surface", {"feed": "recommend"}),
    ],
)  # fmt: skip
def test_an_override_says_what_it_means(variables: dict[str, str], path: str, found: Any) -> None:
    """`null` is none where there may be none and a text elsewhere; the more specific of two wins."""
    for chosen in (variables, dict(reversed(variables.items()))):
        assert value(load({"TIDEGATE_ENV": "prod", **chosen}), path) == found


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TIDEGATE_ENV": "staging"}, r"one of local, prod, test; found 'staging'"),
        ({"TIDEGATE__WORLD__USRES": "9"}, r"world\.usres: Extra inputs are not permitted"),
        ({"TIDEGATE__WORLDS__USERS": "9"}, r"worlds"),
        ({"TIDEGATE__WORLD__USERS": "many"}, r"world\.users.*found 'many'"),
        ({"TIDEGATE__SOURCE__NAME": "pulsar"}, r"source\.name.*found 'pulsar'"),
        ({"TIDEGATE__SOURCE__KAFKA__BATCH_ROWS": "0"}, r"source\.kafka\.batch_rows.*found '0'"),
        ({"TIDEGATE__SOURCE__MAPPING": '{"clicks": {"topic": "a", "query": "b"}}'}, r"needs one of `files`, `query`"),
        ({"TIDEGATE__SOURCE__MAPPING": '{"clicks": {"files": "*.csv"}}'}, r"mapping\.clicks: .*needs `columns`"),
        ({"TIDEGATE__GATE__ESTIMATORS": '["ddr"]'}, r"gate\.estimators.*'dr', 'sndr' or 'pages'"),
        ({"TIDEGATE__GATE__MUST_RISE": '["aux"]'}, r"gate\.must_rise.*must be of auc, .*not aux"),
        ({"TIDEGATE__OUTCOMES": '{"Like": {}}'}, r"outcomes need names of a-z, 0-9 and _ other than .*; found Like"),
        ({"TIDEGATE__OUTCOMES": '{"clicked": {}}'}, r"other than click, clicked, .*; found clicked"),
        ({"TIDEGATE__OUTCOMES": '{"like": {"through": "like"}}'}, r"outcomes\.like\.through.*'clicked', found 'like'"),
        ({"TIDEGATE__OUTCOMES": '{"like": {"through": "watch"}, "watch": {"through": "like"}}'}, r"watch\.through"),
        ({"TIDEGATE__OUTCOMES": '{"like": {"kind": "rank"}}'}, r"outcomes\.like\.kind.*found 'rank'"),
        ({"TIDEGATE__OUTCOMES": '{"like": {"unit": "s"}}'}, r"outcomes\.like: .*a binary outcome needs no unit"),
        ({"TIDEGATE__OUTCOMES__LIKE": "{}"}, r"needs 'outcomes' to be a group.*given whole"),
        ({"TIDEGATE__GATE__MUST_RISE": '["like.auc"]'}, r"further outcomes are none.*; found like\.auc"),
        (
            {"TIDEGATE__OUTCOMES": '{"like": {}}', "TIDEGATE__GATE__MUST_RISE": '["like.auc_upper_half"]'},
            r"metrics of further outcomes are like\.auc, like\.log_loss; found like\.auc_upper_half",
        ),
        ({"TIDEGATE__GATE__OUTCOMES_MUST_NOT_FALL": '{"auc": 0.1}'}, r"needs <outcome>\.<metric>.*not auc"),
        ({"TIDEGATE__ENV__X": "1"}, r"TIDEGATE__ENV__X needs 'env' to be a group"),
        ({"TIDEGATE__TASKS__OF_SURFACE__HOME": "search"}, r"needs 'of_surface' to be a group.*given whole"),
        ({"TIDEGATE__GATE__RISK_DAYS": "3", "TIDEGATE__gate__risk_days": "5"}, r"gate\.risk_days needs one variable"),
        ({"TIDEGATE__GATE": "5", "TIDEGATE__GATE__LOOKS": "3"}, r"'gate' needs to be a group"),
        ({"TIDEGATE__GATE": "null"}, r"gate: .*found 'null'"),
        ({"TIDEGATE__RELEASE__CANARY_PERCENT": "[25, 5]"}, r"release\.canary_percent.*rise, and stay below 100"),
        ({"TIDEGATE__RELEASE__CANARY_PERCENT": "[5, 100]"}, r"release\.canary_percent.*rise, and stay below 100"),
        ({"TIDEGATE__RELEASE__ALARMING_SLOW": "0.01"}, r"alarming_slow must be above tolerated_slow; found 0\.01 and"),
        ({"TIDEGATE__RELEASE__ALARMING_FAILED": "0.001"}, r"alarming_failed must be above tolerated_failed"),
        ({"TIDEGATE__RELEASE__TOLERATED_FALLBACK": "0.1"}, r"alarming_fallback must be above tolerated_fallback"),
        ({"TIDEGATE__RELEASE__PATIENCE_SECONDS": "299"}, r"patience_seconds must be at least .*, 300; found 299"),
        ({"TIDEGATE__GATE": '{"lokks": 3}'}, r"gate\.lokks: Extra inputs"),
        ({"TIDEGATE__SOURCE__DAILY": '["click"]'}, r"source\.daily.*raw tables are impressions, .*; found click"),
        ({"TIDEGATE__GATE__PROFILE": "metrics-only"}, r"gate: .*metrics-only needs gate\.must_rise, .*found none"),
        ({"TIDEGATE__ATTRIBUTION__WINDOW": "6 hours"}, r"attribution\.window: .*found '6 hours'"),
        ({"TIDEGATE__ATTRIBUTION__WINDOW": "0h"}, r"attribution\.window: .*found '0h'"),
        ({"TIDEGATE__ATTRIBUTION__WINDOW": "x6h"}, r"attribution\.window: .*found 'x6h'"),
        ({"TIDEGATE__ATTRIBUTION__CLICK_WINDOW": "6hours"}, r"attribution\.click_window: .*found '6hours'"),
        ({"TIDEGATE__OUTCOMES": '{"like": {"window": "in 6h"}}'}, r"outcomes\.like\.window: .*found 'in 6h'"),
        ({"TIDEGATE__EXPORT__PREFIX": "tide gate_"}, r"export\.prefix: .*found 'tide gate_'"),
        ({"TIDEGATE__ENDPOINT__AWS__INSTANCE_TYPE": "an ml.m5.large"}, r"instance_type: .*found 'an ml\.m5\.large'"),
        (
            {"TIDEGATE__ATTRIBUTION": '{"click_window": "6h", "click_window_days": 2}'},
            r"attribution: .*click_window and click_window_days say the same: give one",
        ),
        (
            {"TIDEGATE__OUTCOMES": '{"like": {"window": "6h", "window_days": 2}}'},
            r"window and window_days say the same",
        ),
        ({"TIDEGATE__AIRFLOW__POOLS": '{"gpu": 1}'}, r"airflow\.pools\.gpu.*'training' or 'spark'"),
        ({"TIDEGATE__AIRFLOW__POOLS": '{"spark": 0}'}, r"airflow\.pools\.spark: .*greater than or equal to 1"),
        ({"TIDEGATE__AIRFLOW__QUEUES": '{"trian": "big"}'}, r"airflow\.queues: .*stages are ingest, .*; found trian"),
        ({"TIDEGATE__AIRFLOW__QUEUES": '{"train": "a,b"}'}, r"airflow\.queues\.train: .*found 'a,b'"),
        ({"TIDEGATE__AIRFLOW__PODS": '{"train": {"gpu": 1}}'}, r"airflow\.pods\.train\.gpu: Extra inputs"),
        ({"TIDEGATE__AIRFLOW__LOGS": "/var/log"}, r"airflow\.logs: .*must be s3://bucket/prefix: .*'/var/log'"),
        ({"TIDEGATE__GATE__MIN_TEST_ROWS": "null"}, r"gate\.min_test_rows.*found 'null'"),
    ],
)
def test_a_wrong_setting_never_starts(variables: dict[str, str], message: str) -> None:
    """A typo must not silently leave the default in force."""
    with pytest.raises(Misconfigured, match=message):
        load(variables)


def test_no_file_repeats_a_default() -> None:
    """Each default is written once: a file says only what differs."""
    defaults = Config().model_dump(mode="json")
    for path in (ROOT / "infra" / "env").glob("*.toml"):
        for keys, found in said(tomllib.loads(path.read_text())):
            default: Any = defaults
            for key in keys:
                default = default[key]
            assert default != found, f"{path.name}: {'.'.join(keys)} repeats its default"


def said(tree: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and value of all that a file says."""
    for key, found in tree.items():
        if isinstance(found, dict):
            yield from (((key, *keys), value) for keys, value in said(found))
        else:
            yield (key,), found


def reach(leaf: str) -> set[str]:
    """The stages whose digest a setting changes, in truth."""
    given = needed(leaf)
    before = load(given)
    found = another(before, leaf)
    text = found if isinstance(found, str) else json.dumps(found)
    changed = load({**given, variable(leaf): text})
    return {stage for stage in STAGES if changed.digest(stage) != before.digest(stage)}


@pytest.mark.parametrize("leaf", [leaf for leaf in LEAVES if leaf != "env"])
def test_a_setting_changes_the_digest_of_the_stages_it_reaches_and_of_no_other(leaf: str) -> None:
    """As it is declared, and as this list has it; whoever adds a setting must decide."""
    order = list(STAGES)
    first = next((stage for prefix, stage in REACHES.items() if f"{leaf}.".startswith(f"{prefix}.")), None)
    only = leaf.startswith(("dataset.retrieval.", "experiments"))
    expected = set() if first is None else {first} if only else set(order[order.index(first) :])
    assert reach(leaf) == expected


def test_neither_place_nor_alarm_reaches_a_bundle_or_its_evidence() -> None:
    """Somebody moves a folder or mutes an alarm: what is deployed stays deployed, and an approval stays good."""
    nothing = ("bundles", "lake", "spark", "validation", "tracking", "training", "endpoint", "source.data",
               "source.url", "export", "features.online",
               "features.online_store", "features.online_path", "features.redis_url", "monitoring",
               "release", "airflow")  # fmt: skip
    for leaf in LEAVES:
        if leaf != "training.most_rows" and any(f"{leaf}.".startswith(f"{prefix}.") for prefix in nothing):
            assert not reach(leaf) & {"train", "backtest", "promote", "deploy"}, leaf
    assert load({"TIDEGATE_ENV": "local"}).digest("train") == Config(env="prod").digest("train")


def test_a_setting_that_does_not_say_what_it_changes_is_a_bug() -> None:
    """Neither in nor out by default."""

    class Grown(Config):
        latency: float = 0.5

    with pytest.raises(TypeError, match="latency must say which rows it Changes"):
        Grown().digest("train")


def test_the_tree_prints_as_json() -> None:
    """`python -m jobs config` is what an engineer reads at 3 a.m."""
    assert json.loads(load({}).model_dump_json())["source"]["name"] == "simulated"


def test_production_asks_at_least_what_a_laptop_asks() -> None:
    """What is promoted in production would be promoted on a laptop: a rehearsal that holds must not pass for real."""
    local, prod = load({}).gate, load({"TIDEGATE_ENV": "prod"}).gate
    assert prod != local
    assert set(prod.estimators) >= set(local.estimators)
    assert set(prod.must_rise) >= set(local.must_rise)
    assert prod.risk_days >= local.risk_days, "the more days share a risk, the less each may spend"
    for least in ("confidence", "expected_looks", "min_effective_n", "min_test_rows", "min_known_share", "min_lift"):
        assert getattr(prod, least) >= getattr(local, least), least
    for most in (name for name in GateSettings.model_fields if name.startswith("max_")):
        loose, tight = getattr(local, most), getattr(prod, most)
        assert loose is None or (tight is not None and tight <= loose), most
    for metric, margin in local.must_not_fall.model_dump().items():
        tight = getattr(prod.must_not_fall, metric)
        assert margin is None or (tight is not None and tight <= margin), metric


def test_features_go_online_where_an_endpoint_is_configured() -> None:
    """Most of a featurize went into a store that nobody read; whoever names an endpoint, or says so, has it."""
    assert not load({}).online
    assert load({"TIDEGATE__ENDPOINT__URL": "http://127.0.0.1:8700"}).online
    assert load({"TIDEGATE__FEATURES__ONLINE": "true"}).online
    assert not load({"TIDEGATE__ENDPOINT__URL": "http://127.0.0.1:8700", "TIDEGATE__FEATURES__ONLINE": "false"}).online


def test_an_address_is_shown_without_its_password() -> None:
    """`python -m jobs config` is what people paste into a ticket; the clients are given what was set."""
    said = {
        "TIDEGATE__FEATURES__REDIS_URL": "redis:6380,ssl=true,password=hunter2,db=1",
        "TIDEGATE__TRACKING__URI": "postgresql://team:hunter3@db/mlflow",
    }
    settings = load({"TIDEGATE_ENV": "test", **said})
    assert (settings.features.redis_url, settings.tracking.uri) == tuple(said.values())
    shown = settings.model_dump_json()
    assert "hunter" not in shown
    assert "redis:6380,ssl=true,password=***,db=1" in shown
    assert "postgresql://team:***@db/mlflow" in shown


def test_what_a_driver_says_of_an_address_is_shown_without_its_password() -> None:
    """It says the password as it was written or as it is meant, inside the address or alone."""
    address = "postgresql://team:hunter%402@db/mlflow"
    for said in (f"cannot reach {address}", "no such password: hunter@2"):
        assert "hunter" not in without_password(address, said=said)
    assert without_password("sqlite:///team.db", said="team.db is locked") == "team.db is locked"
