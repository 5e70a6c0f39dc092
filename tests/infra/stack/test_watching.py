"""What watches a stack is started where it can be, and where not it is said why."""

from pathlib import Path

import pytest

from infra.stack.components import Layout
from infra.stack.watching import missing, watchers


def binary(folder: Path, says: str) -> None:
    """A `prometheus` that only knows its version, the one thing that is asked here."""
    path = folder / "prometheus"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ("prometheus, version 2.42.0+ds (branch: debian/sid)", None),
        ("prometheus, version 3.5.0 (branch: HEAD)", None),
        (
            "prometheus, version 2.24.1+ds (branch: debian/sid)",
            "must be 2.42 or newer; found prometheus, version 2.24.1",
        ),
        ("a game of that name", "must be 2.42 or newer; found a game of that name"),
        (None, "no prometheus on this machine"),
    ],
)
def test_an_old_prometheus_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None, why: str | None
) -> None:
    """It would end at rules it does not know, and `make up` with it."""
    if says is not None:
        binary(tmp_path, says)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = missing()
    assert (found is None) if why is None else (why in str(found))
    layout = Layout(tmp_path, "http://a:1", "http://m:2", "http://e:3", "http://x:4", "http://p:5")
    urls = layout.watched()
    assert set(urls) - set(layout.urls()) == {"exporter", *(["prometheus"] if why is None else [])}
    names = [component.name for component in watchers(tmp_path / "stack", urls, {})]
    assert names == ["exporter", *(["prometheus"] if why is None else [])]


def test_addresses_of_an_earlier_stack_are_kept_where_they_are_free(tmp_path: Path) -> None:
    """A bookmark stays good; a folder of before there were watchers gets ports for all."""
    first = Layout.at(tmp_path)
    assert Layout.at(tmp_path) == first
    (tmp_path / "ports.json").write_text("[1, 2, 3]")
    later = Layout.at(tmp_path)
    assert len({*later.urls().values(), later.exporter, later.prometheus}) == 5
