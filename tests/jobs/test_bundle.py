"""The bundle: what serves is what was judged, byte for byte."""

import json
from pathlib import Path

import numpy as np
import pytest

from jobs import bundle
from jobs.bundle import Bundle
from jobs.errors import Refused
from models.rankers import fit
from models.rankers.protocol import TrainingData
from models.retrieval import ItemIndex
from models.settings import PolicySettings, RankerSettings

POLICY = PolicySettings(temperature=0.7)


def popularity(clicks: int = 3) -> "bundle.Ranker":
    items = np.array(["a", "b"] * 5, dtype=object)
    clicked = np.array([1.0] * clicks + [0.0] * (10 - clicks))
    data = TrainingData({"item_id": items}, clicked, np.full(10, np.nan), np.ones(10))
    return fit("popularity", data, RankerSettings())


def written(folder: Path, clicks: int = 3, index: ItemIndex | None = None) -> Bundle:
    ranker = popularity(clicks)
    return bundle.write(folder, "popularity-full-2026-01-08", ranker, ranker, index, POLICY, {"day": "2026-01-08"})


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    users = [f"u{n % 7}" for n in range(40)]
    items = [f"i{n % 5}" for n in range(40)]
    made = written(tmp_path, index=ItemIndex.fit(users, items, 2, 0))
    found = bundle.load(made.path, made.sha256)
    columns = {"item_id": np.array(["a", "b", "new"], dtype=object)}
    assert found.ranker.predict(columns).p_click.tolist() == popularity().predict(columns).p_click.tolist()
    assert found.fallback.kind == "popularity"
    assert found.policy == POLICY
    assert found.index is not None
    assert found.index.search(["i1"], 3) == made.index.search(["i1"], 3)  # type: ignore[union-attr]


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
    (made.path / bundle.MANIFEST).write_text(json.dumps({**manifest, "schema_version": 2}))
    with pytest.raises(Refused, match="schema_version 1; found 2"):
        bundle.load(made.path)
