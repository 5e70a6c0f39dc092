"""What people read is true of the tree: links lead somewhere, commands, settings and benchmarks exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.__main__ import BESIDES, OTHERS
from jobs.config import ROOT, Config
from jobs.flow import STAGES
from jobs.forget import tables as forget_tables
from jobs.lake.tables import LAKE, PERSONAL, RAW
from tests import settings_page, sizing_page

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
COMMANDS = {*STAGES, *BESIDES, *OTHERS}
MADE_UP = ("jobs/sources/shop.py",)
"""A team's own file, which a page shows how to write."""
GROUPS = {path[0] for path, _ in settings_page.groups(Config, ()) if path}


def test_the_settings_are_all_on_their_page() -> None:
    """`make docs` writes it; who adds a setting and forgets is told here."""
    assert settings_page.PAGE.read_text() == settings_page.written()


def test_sizes_are_reckoned_from_the_figures_that_are_on_record() -> None:
    """`make docs` writes the page."""
    assert sizing_page.PAGE.read_text() == sizing_page.written()


def test_personal_columns_are_all_on_their_page_and_forgotten_by_it() -> None:
    """Who gives a table one and forgets the page is told here; `forget` looks where a person stands."""
    tables = [*RAW.values(), *LAKE.values()]
    for column, meaning in PERSONAL.items():
        having = ", ".join(sorted({table.name for table in tables if column in table.columns}))
        assert f"| `{column}` | {having} | {meaning} |" in (ROOT / "docs" / "security.md").read_text()
    standing = {name for name, table in LAKE.items() if {"user_id", "payload"} & set(table.columns)}
    assert standing == set(forget_tables.HOLDERS)


def test_every_setting_says_what_it_means() -> None:
    """Or which values it may have, by the names of things that the page's other rows explain."""
    silent = [
        ".".join((*path, key))
        for path, group in settings_page.groups(Config, ())
        for key, field in group.model_fields.items()
        if settings_page.below(field) is None and not (field.description or settings_page.allowed(field))
    ]
    assert not silent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of the checkout, or a heading of a page; addresses of elsewhere are not asked."""
    broken = [link for link in LINK.findall(FENCE.sub("", page.read_text())) if not _leads(page, link)]
    assert not broken


def test_every_page_is_found_from_the_readme() -> None:
    """A page nobody links is a page nobody reads."""
    front = (ROOT / "README.md").read_text()
    pages = [page for page in PAGES if page.parent == ROOT / "docs"]
    assert pages
    assert not [page.name for page in pages if f"docs/{page.name}" not in front]


@pytest.mark.parametrize("page", [p for p in PAGES if "decisions" not in p.parts], ids=lambda page: page.name)
def test_what_is_named_exists(page: Path) -> None:
    """Stages of `python -m jobs`, benchmarks, targets of make, settings with their group, and files.

    Decisions on record may name what has gone since.
    """
    text = page.read_text()
    found = {
        *(f"jobs {word}" for word in re.findall(r"python -m jobs ([a-z_]+)", text) if word not in COMMANDS),
        *(f"bench {name}" for name in re.findall(r"`bench ([a-z_]+)`", text) if not _bench(name)),
        *(f"make {name}" for name in re.findall(r"`make ([a-z]+)", text) if not _target(name)),
        *(name for name in re.findall(r"`([a-z_]+(?:\.[a-z_0-9]+)+)(?: = [^`]*)?`", text) if not _setting(name)),
        *(path for path in re.findall(r"`((?:jobs|models|infra|tests|dags|docs)/[\w/.*-]+)`", text) if not _file(path)),
    }
    assert not sorted(found)


def _leads(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True
    path, _, heading = link.partition("#")
    file = (page.parent / path).resolve() if path else page
    return file.exists() and (not heading or heading in set(_headings(file)))


def _headings(page: Path) -> Iterator[str]:
    """As Git hosts name them."""
    for line in FENCE.sub("", page.read_text()).splitlines():
        if line.startswith("#"):
            yield re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")


def _bench(name: str) -> bool:
    return (ROOT / "tests" / "bench" / f"bench_{name}.py").exists()


def _target(name: str) -> bool:
    return re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None


def _setting(name: str) -> bool:
    """Whether a dotted name whose first word is a group of settings is one; others are no settings."""
    first, *rest = name.split(".")
    if first not in GROUPS:
        return True
    group = Config.model_fields[first]
    for key in rest:
        below = settings_page.below(group)
        if below is None:
            return True  # a key of a map, or of a value
        if key not in below.model_fields:
            return False
        group = below.model_fields[key]
    return True


def _file(path: str) -> bool:
    return path in MADE_UP or bool(list(ROOT.glob(path.rstrip("/"))))
