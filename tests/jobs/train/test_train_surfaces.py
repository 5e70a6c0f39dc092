"""One model for several surfaces: which it can be for, and what one for each would gain on which."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import bundle
from jobs.errors import Misconfigured, Refused
from jobs.evidence.scored import Scored
from jobs.lake.store import Lake
from jobs.train import core, job, surfaces
from jobs.train.surfaces import bespoke_against_consolidated, need_same_entities, sentences
from models.settings import GateSettings, PolicySettings
from tests.jobs.small_lake import DAY, World, a_run, publish, publish_all, settings


def shown(**of: list[str]) -> pa.Table:
    """Counted in two batches, as they are read."""
    rows = pa.table(
        {
            "surface": pa.array([surface for surface, items in of.items() for _ in items]),
            "item_id": pa.array([item for items in of.values() for item in items]),
        }
    )
    return pa.concat_tables([surfaces.shown(rows.slice(0, 7)), surfaces.shown(rows.slice(7))])


ITEMS = [f"i{n}" for n in range(20)]
QUERIES = [f"q{n}" for n in range(20)]


def test_a_surface_that_ranks_other_entities_is_refused_with_the_reason() -> None:
    """Queries among items: neither the catalogue nor another surface knows them; half of them would do."""
    catalogue = pa.chunked_array([ITEMS])
    rows = shown(home=ITEMS * 20, search=ITEMS * 20, suggest=QUERIES * 9 + ITEMS * 2)
    with pytest.raises(Refused, match=r"suggest has 40 of 220 impressions .* dataset.without_surfaces"):
        need_same_entities(rows, catalogue)
    need_same_entities(shown(home=ITEMS * 20, suggest=QUERIES * 10 + ITEMS * 10), catalogue)


@pytest.mark.parametrize(
    ("rows", "catalogue"),
    [
        (shown(home=ITEMS * 20, fresh=QUERIES * 20), pa.chunked_array([[*ITEMS, *QUERIES]])),
        (shown(home=ITEMS * 20, search=ITEMS * 20), None),
        (shown(home=ITEMS * 20), pa.chunked_array([["another"]])),
        (shown(home=ITEMS * 20, rare=QUERIES * 4), pa.chunked_array([ITEMS])),
    ],
    ids=["in the catalogue, on one surface alone", "no catalogue", "one surface", "too few to tell"],
)
def test_what_is_shared_one_way_or_the_other_is_not(rows: pa.Table, catalogue: pa.ChunkedArray | None) -> None:
    need_same_entities(rows, catalogue)


def test_without_a_catalogue_other_surfaces_alone_tell() -> None:
    with pytest.raises(Refused, match="home has 0 of 400"):
        need_same_entities(shown(home=ITEMS * 20, suggest=QUERIES * 20), None)


def rows_of(p_click: dict[str, Any], truth: Any, surface: Any) -> Scored:
    n = len(truth)
    clicked = (np.random.default_rng(0).random(n) < truth).astype(float)
    said = {kind: np.broadcast_to(p, (n,)).astype(float) for kind, p in p_click.items()}
    requests = np.arange(n) // 4
    return Scored(clicked, requests, requests, said, said, said, {"surface": surface})


def test_who_gains_where_is_told_with_intervals() -> None:
    """A bespoke ranker that knows one surface better and the other not at all: each surface says so, for sure."""
    n = 8000
    rng, surface = np.random.default_rng(1), np.array(["home", "search"] * (n // 2), object)[np.arange(n) // 4 % 2]
    surface = np.where(np.arange(n) // 4 % 2, "search", "home").astype(object)
    truth = rng.beta(1, 3, n)
    noise = rng.beta(1, 3, n)
    consolidated = 0.5 * truth + 0.5 * noise
    bespoke = np.where(surface == "home", truth, noise)
    rows = rows_of({"logistic": consolidated, "logistic_by_surface": bespoke}, truth, surface)
    found = bespoke_against_consolidated(rows, list(rows.as_shown), GateSettings())
    assert list(found) == ["logistic"]
    home, search = (found["logistic"]["ndcg_at_10"]["surfaces"][name] for name in ("home", "search"))
    assert home["low"] > 0 > search["high"]
    assert home["rows"] == search["rows"] == n // 2
    said = sentences(found)
    assert len(said) == 3
    assert not any("opposite" in one for one in said)
    assert "ndcg_at_10 of logistic, one for each surface minus one for all" in said[0]
    assert "search -0." in said[0]
    assert not bespoke_against_consolidated(rows, ["popularity", "logistic"], GateSettings())


def test_a_paradox_is_named() -> None:
    """Rankers that never met: each orders its surface better, and together, of other levels, they order all worse."""
    n = 8000
    surface = np.where(np.arange(n) // 4 % 2, "search", "home").astype(object)
    rng = np.random.default_rng(1)
    truth = np.where(surface == "home", 0.1, 0.5) * rng.uniform(0.5, 1.5, n)
    one = truth * rng.uniform(0.7, 1.3, n)
    each = truth * np.where(surface == "home", 1.0, 0.2)
    found = bespoke_against_consolidated(
        rows_of({"logistic": one, "logistic_by_surface": each}, truth, surface), ["logistic", "logistic_by_surface"],
        GateSettings(),
    )  # fmt: skip
    auc = found["logistic"]["auc"]
    assert auc["all"]["high"] < 0
    assert all(of["difference"] > 0 for of in auc["surfaces"].values())
    assert auc["reversed"]
    assert any("the whole says the opposite of every surface" in said for said in sentences(found))


def test_an_attribute_that_no_item_has_is_told_before_anything_is_trained() -> None:
    """A misspelt boost would do nothing, for ever."""
    rules = {"boosts": [{"of": "item.brand", "word": "a", "times": 2}], "caps": [{"most": 2}]}
    core.need_words(PolicySettings.model_validate({"heuristics": rules}), ["item.brand", "segment"])
    rules["boosts"][0]["of"] = "item.bradn"  # type: ignore[index]
    policy = PolicySettings.model_validate({"surfaces": {"home": {"heuristics": rules}}})
    with pytest.raises(Misconfigured, match=r"of attributes.item.brand; found attributes.item.bradn"):
        core.need_words(policy, ["item.brand", "segment"])


def test_auto_trains_both_and_a_bundle_of_either_is_one_like_any(tmp_path: Path, tmp_path_factory: Any) -> None:
    """From examples of two surfaces to candidates; what is told of both stands in the report."""
    quick = {"ranker__kinds": '["logistic"]', "ranker__surfaces": "auto", "ranker__logistic__steps": "5"}
    config = settings(tmp_path, tmp_path_factory.getbasetemp(), **quick)
    publish_all(config, World(), n=150)
    rows = Lake(config.lake.root).read("examples", [DAY]).drop_columns(["day", "mode"])
    surface = pa.array(["search" if of[-1] in "13579" else "home" for of in rows["request_id"].to_pylist()])
    rows = rows.set_column(rows.schema.get_field_index("surface"), "surface", surface)
    publish(config, "examples", rows, day=str(DAY), mode="full")
    report = job.run(a_run("train", config))
    made = {row["ranker"]: row for row in Lake(config.lake.root).read("candidates", [DAY]).to_pylist()}
    assert set(made) == {"popularity", "logistic", "logistic_by_surface"}
    assert set(report["validation"]) == set(made)
    each = report["bespoke_minus_consolidated"]["logistic"]["log_loss"]
    assert {"all", "surfaces", "reversed"} == set(each)
    row = made["logistic_by_surface"]
    found = bundle.load(Path(row["bundle"]), row["bundle_sha256"])
    assert found.ranker.kind == "logistic_by_surface"
    assert found.manifest["lineage"]["surfaces"] == ["home", "search"]
