"""One configuration tree: unknown keys fail, every override has one place, the digest follows the meaning."""

import json
import tomllib

import pytest

from jobs.config import ROOT, Config, load
from jobs.errors import Misconfigured
from models.settings import GateSettings


def test_the_environment_overrides_the_file_and_the_file_the_default() -> None:
    """The three layers in their order, so that an operator knows which one wins."""
    assert load({}).world.users == Config().world.users
    assert load({"TIDEGATE_ENV": "test"}).world.users == 300
    assert load({"TIDEGATE_ENV": "test", "TIDEGATE__WORLD__USERS": "77"}).world.users == 77
    assert load({"TIDEGATE__GATE__ESTIMATORS": '["dr", "pages"]'}).gate.estimators == ("dr", "pages")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TIDEGATE_ENV": "staging"}, r"one of local, prod, test; found 'staging'"),
        ({"TIDEGATE__WORLD__USRES": "9"}, r"world\.usres: Extra inputs are not permitted"),
        ({"TIDEGATE__WORLDS__USERS": "9"}, r"worlds"),
        ({"TIDEGATE__WORLD__USERS": "many"}, r"world\.users.*found 'many'"),
        ({"TIDEGATE__SOURCE__NAME": "kafka"}, r"source\.name.*found 'kafka'"),
        ({"TIDEGATE__GATE__ESTIMATORS": '["ddr"]'}, r"gate\.estimators.*'dr', 'sndr' or 'pages'"),
        ({"TIDEGATE__GATE__MUST_RISE": '["aux"]'}, r"gate\.must_rise.*must be of auc, .*not aux"),
        ({"TIDEGATE__ENV__X": "1"}, r"needs 'env' to be a group"),
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
        for group, values in tomllib.loads(path.read_text()).items():
            for key, value in values.items():
                assert defaults[group][key] != value, f"{path.name}: {group}.{key} repeats its default"


def test_the_digest_changes_with_meaning_and_not_with_addresses() -> None:
    """Two runs with the same digest mean the same by every row; where they wrote it does not matter."""
    base = load({}).digest()
    assert load({"TIDEGATE__RANKER__SEED": "8"}).digest() != base
    assert load({"TIDEGATE__ENDPOINT__URL": "http://127.0.0.1:1"}).digest() == base
    assert load({"TIDEGATE__LAKE__ROOT": "elsewhere"}).digest() == base


def test_the_tree_prints_as_json() -> None:
    """`python -m jobs config` is what an engineer reads at 3 a.m."""
    assert json.loads(load({}).model_dump_json())["source"]["name"] == "simulated"


def test_production_asks_at_least_what_a_laptop_asks() -> None:
    """What is promoted in production would be promoted on a laptop: a rehearsal that holds must not pass for real."""
    local, prod = load({}).gate, load({"TIDEGATE_ENV": "prod"}).gate
    assert prod != local
    assert prod.value_confidence > local.value_confidence
    assert set(prod.estimators) >= set(local.estimators)
    assert set(prod.must_rise) >= set(local.must_rise)
    for least in ("confidence", "looks", "min_effective_n", "min_test_rows", "min_known_share", "min_lift"):
        assert getattr(prod, least) >= getattr(local, least), least
    for most in (name for name in GateSettings.model_fields if name.startswith("max_")):
        loose, tight = getattr(local, most), getattr(prod, most)
        assert loose is None or (tight is not None and tight <= loose), most
    for metric, margin in local.must_not_fall.model_dump().items():
        tight = getattr(prod.must_not_fall, metric)
        assert margin is None or (tight is not None and tight <= margin), metric
