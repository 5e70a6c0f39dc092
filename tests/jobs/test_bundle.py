"""The bundle: what serves is what was judged, byte for byte."""

import json
from pathlib import Path

import numpy as np
import pytest

from jobs import bundle
from jobs.bundle import Bundle
from jobs.errors import Refused
from models.monitoring.profile import Profile
from models.rankers import fit
from models.rankers.protocol import TrainingData
from models.retrieval import RETRIEVERS, FirstStage
from models.retrieval.interactions import Interactions
from models.settings import PolicySettings, RankerSettings, RetrievalSettings, SurfaceSettings
from tests.models.retrieval.worlds import grouped

POLICY = PolicySettings(temperature=0.7, surfaces={"search": SurfaceSettings(kind="epsilon_greedy", epsilon=0.01)})


def popularity(clicks: int = 3) -> "bundle.Ranker":
    items = np.array(["a", "b"] * 5, dtype=object)
    clicked = np.array([1.0] * clicks + [0.0] * (10 - clicks))
    data = TrainingData({"item_id": items}, clicked, np.full(10, np.nan), np.ones(10))
    return fit("popularity", data, RankerSettings())


def written(folder: Path, clicks: int = 3, retrieval: FirstStage | None = None) -> Bundle:
    ranker = popularity(clicks)
    return bundle.write(folder, "popularity-full-2026-01-08", ranker, ranker, retrieval, POLICY, {"day": "2026-01-08"})


def first_stage(*kinds: str) -> FirstStage:
    return first_stage_of(grouped(), *kinds)


def first_stage_of(data: Interactions, *kinds: str) -> FirstStage:
    settings = RetrievalSettings(k=5, ials={"dimensions": 8}, content={"dimensions": 4})
    retrievers = [RETRIEVERS[kind].fit(data, settings) for kind in kinds or ("ials",)]
    ids = [f"i{n}" for n in range(data.items)]
    return FirstStage.build(ids, retrievers, data.matrix(), settings, np.zeros(data.items, dtype=bool))


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made = written(tmp_path, retrieval=first_stage("ials", "content"))
    found = bundle.load(made.path, made.sha256)
    columns = {"item_id": np.array(["a", "b", "new"], dtype=object)}
    assert found.ranker.predict(columns).p_click.tolist() == popularity().predict(columns).p_click.tolist()
    assert found.fallback.kind == "popularity"
    assert found.policy == POLICY
    assert found.retrieval is not None
    assert made.retrieval is not None
    assert found.retrieval.to_files() == made.retrieval.to_files()
    assert found.retrieval.search(["i1"]) == made.retrieval.search(["i1"])


def test_a_light_stage_comes_back_and_cuts_as_before(tmp_path: Path) -> None:
    """Three of five candidates of each request by its own ranker; none where there is no such stage."""
    heavy, light = popularity(3), popularity(8)
    made = bundle.write(tmp_path, "a", heavy, heavy, None, POLICY, {}, light=bundle.Light(light, 2))
    found = bundle.load(made.path, made.sha256)
    columns = {"item_id": np.array(["a", "b", "new", "b", "a"], dtype=object)}
    offsets = np.array([0, 3, 5])
    left = found.kept(columns, offsets)
    assert left is not None
    assert left.tolist() == [True, True, False, True, True]
    assert found.rankers == (found.ranker, found.light.ranker)  # type: ignore[union-attr]
    assert found.manifest["light"] == {"ranker": "popularity", "keeps": 2}
    assert written(tmp_path).kept(columns, offsets) is None


def test_same_content_same_sha_and_another_content_another(tmp_path: Path) -> None:
    """A sha that followed the clock or the folder could not tell whether the model changed."""
    first, second, other = (written(tmp_path / name, clicks) for name, clicks in (("x", 3), ("y", 3), ("z", 4)))
    assert first.sha256 == second.sha256 != other.sha256


@pytest.mark.parametrize("harm", ["changed", "missing", "added", "manifest"])
def test_a_tampered_bundle_is_refused(tmp_path: Path, harm: str) -> None:
    """A file swapped between judgement and deployment must never serve."""
    made = written(tmp_path)
    victim = made.path / "ranker" / "popularity.json"
    if harm == "changed":
        victim.write_bytes(victim.read_bytes().replace(b"0", b"1", 1))
    elif harm == "missing":
        victim.unlink()
    elif harm == "added":
        (made.path / "ranker" / "more.json").write_text("{}")
    else:
        (made.path / bundle.MANIFEST).unlink()
    with pytest.raises(Refused, match="a bundle needs" if harm == "manifest" else "unchanged"):
        bundle.load(made.path)


def test_another_bundle_than_the_judged_one_is_refused(tmp_path: Path) -> None:
    """Consistent in itself, but not what the evidence is about."""
    judged = written(tmp_path, 3).sha256
    replaced = written(tmp_path, 4)
    with pytest.raises(Refused, match="must be the one that was judged"):
        bundle.load(replaced.path, judged)


def test_writing_again_replaces_it_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    written(tmp_path, 3)
    again = written(tmp_path, 4)
    assert [path.name for path in tmp_path.iterdir()] == [again.candidate_id]
    assert bundle.load(again.path).sha256 == again.sha256


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    made = written(tmp_path)
    manifest = json.loads((made.path / bundle.MANIFEST).read_text())
    (made.path / bundle.MANIFEST).write_text(json.dumps({**manifest, "schema_version": 3}))
    with pytest.raises(Refused, match="schema_version 2; found 3"):
        bundle.load(made.path)


@pytest.mark.parametrize("harm", ["vectors", "index"])
def test_an_index_that_does_not_find_what_it_should_is_refused(tmp_path: Path, harm: str) -> None:
    """Every file is as its manifest says, and still the bundle would offer the wrong items: the canary knows."""
    files = first_stage("ials").to_files()
    other = first_stage_of(grouped(seed=9)).to_files()
    broken = "ials/ials.items.npy" if harm == "vectors" else "ials/vectors.faiss"
    assert files[broken] != other[broken]

    class Broken:
        kind = "ials"

        def to_files(self) -> dict[str, bytes]:
            return {**files, broken: other[broken]}

    with pytest.raises(Refused, match="needs a retrieval that finds what it found when it was built"):
        written(tmp_path, retrieval=Broken())  # type: ignore[arg-type]


def test_its_reference_is_a_file_like_any_other_and_an_older_bundle_has_none(tmp_path: Path) -> None:
    """A reference that was changed is another bundle; `monitor` goes without one where there is none."""
    some = Profile.of({"x": np.arange(50.0)}, np.arange(50), np.full(50, "home", object))
    popular = popularity()
    made = bundle.write(tmp_path, "a", popular, popular, None, POLICY, {}, reference=some.to_json())
    assert made.reference == some
    assert bundle.write(tmp_path, "b", popular, popular, None, POLICY, {}).reference is None
    (made.path / bundle.REFERENCE).write_bytes(b"{}")
    with pytest.raises(Refused, match="unchanged"):
        bundle.load(made.path)
