"""Whoever approves a model sees what it learned from."""

import re
from pathlib import Path

from jobs.evidence import dataset
from jobs.evidence.dataset import published
from tests.jobs.assemble import assemble_world as assembled


def test_the_page_says_what_assemble_published(tmp_path: Path) -> None:
    """From the commit of the examples to the page: rows, weights, surfaces, and what was left out by choice."""
    world = assembled.World(tmp_path)
    assembled.busy(world)
    assembled.with_dataset(world, assembled.EVERYTHING)
    counts = world.assemble()
    card = published(world.lake.lineage("examples", {"day": str(assembled.DAY), "mode": "full"}))
    assert card == world.card()
    page = dataset.html(card)
    cells = {
        line[0]: line[1:]
        for line in (re.findall("<t[dh]>(.*?)</t[dh]>", row) for row in re.findall("<tr>(.*?)</tr>", page))
    }
    assert cells["examples"] == [str(counts[split]) for split in ("train", "validate", "test")]
    assert cells["impressions they stand for"][1:] == cells["examples"][1:]
    assert cells["click rate"][0] == f"{card['splits']['train']['click_rate']:.4f}"
    assert {name for name in cells if name.startswith("examples on")} == {"examples on home", "examples on search"}
    left_out = [int(n) for n in re.findall(r"(\d+) (?:inactive user|duplicate|negative|surface)", page)]
    assert sum(left_out) == counts["left_out"]


def test_a_dataset_without_a_card_is_told_so() -> None:
    """An older commit, or another writer's."""
    assert published(None) is None
    assert published({"notes": "{}"}) is None
    assert "without a data card" in dataset.html(None)


def test_names_of_a_log_are_text_on_the_page(tmp_path: Path) -> None:
    """A surface is whatever a logger writes."""
    world = assembled.World(tmp_path)
    hostile = world.impression("ann", "tea", assembled.at(2), surface="<script>")
    world.fill({assembled.FIRST.replace(day=2): [hostile]})
    world.assemble()
    page = dataset.html(world.card())
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
