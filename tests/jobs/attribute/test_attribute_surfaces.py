"""What a click and a conversion are on which surface: another outcome, or what came sooner."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from jobs import config
from jobs.attribute import core
from jobs.config import AttributionSettings, Config, SurfaceLabelSettings
from jobs.errors import Misconfigured
from jobs.lake.tables import LAKE
from jobs.outcomes import as_known
from models.settings import OutcomeSettings

START = datetime(2026, 1, 1, tzinfo=UTC)
OUTCOMES = {"long_view": OutcomeSettings(), "watch": OutcomeSettings(kind="value")}
RULES = AttributionSettings(
    click_window_days=2,
    surfaces={
        "feed": SurfaceLabelSettings(click="long_view"),
        "notify": SurfaceLabelSettings(click_window_days=1),
        "search": SurfaceLabelSettings(window_days=1),
    },
)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def labelled(
    surface: str | None,
    clicks: tuple[float, ...] = (),
    views: tuple[float, ...] = (),
    rules: Any = RULES,
    bought: float = 0.1,
) -> dict[str, Any]:
    """Of one impression at 0 o'clock, clicked and viewed after so many hours, `bought` hours after the first click."""
    event = {"user_id": "u", "item_id": "i", "impression_id": "s"}
    rows: dict[str, list[dict[str, Any]]] = {
        "impressions": [event | {"request_id": "r", "event_time": at(0), "ingested_at": at(0), "surface": surface}],
        "clicks": [event | {"click_id": f"c{h}", "event_time": at(h), "ingested_at": at(h)} for h in clicks],
        "feedback": [
            event | {"feedback_id": f"f{h}", "outcome": "long_view", "event_time": at(h), "ingested_at": at(h)}
            for h in views
        ],
        "purchases": [
            event | {"purchase_id": "p", "event_time": at(h + bought), "ingested_at": at(h + bought), "value": 2.0}
            for h in clicks[:1]
        ],
    }
    tables = {
        table: pa.table(
            {name: pa.array([row.get(name) for row in found], LAKE[table].columns[name].type)
             for name in core.LOOKED_AT[table]}
        )
        for table, found in rows.items()
    }  # fmt: skip
    [row] = core.attribute(**tables, settings=rules, outcomes=OUTCOMES)[0].to_pylist()
    return row


@pytest.mark.parametrize(
    ("surface", "clicks", "views", "clicked"),
    [
        ("home", (1.0,), (), True),
        ("home", (), (1.0,), False),
        (None, (1.0,), (), True),
        ("feed", (1.0,), (), False),
        ("feed", (), (1.0,), True),
        ("feed", (), (25.0,), False),
        ("notify", (23.0,), (), True),
        ("notify", (25.0,), (), False),
        ("home", (25.0,), (), True),
        ("notify", (-0.1,), (), True),
    ],
)
def test_each_surface_has_its_own_click(
    surface: str | None, clicks: tuple[float, ...], views: tuple[float, ...], clicked: bool
) -> None:
    """Those not named, and an unknown one, are as ever; a click a little before its impression still is one."""
    row = labelled(surface, clicks, views)
    assert row["clicked"] is clicked
    heard = min((*(views if surface == "feed" else clicks),), default=None)
    assert row["click_known_at"] == (at(max(heard, 0)) if clicked and heard is not None else None)
    assert row["converted"] is bool(clicks), "a purchase comes of a click, whatever that is"


def test_it_is_open_as_long_as_its_own_event_may_come() -> None:
    """Days of the outcome on one surface, of the shorter window on another, of the general one elsewhere."""
    assert {of: labelled(of)["click_matures_at"] for of in ("home", "feed", "notify")} == {
        "home": at(48),
        "feed": at(24),
        "notify": at(24),
    }
    labels = pa.Table.from_pylist([labelled("notify"), labelled("home")], LAKE["labels"].schema)
    assert as_known(labels, "clicked", at(30), RULES.late_days).to_pylist() == [False, None]


@pytest.mark.parametrize("model", ["last_click", "first_click", "linear", "time_decay"])
def test_each_surface_has_its_own_window_of_purchases(model: str) -> None:
    """From the click on, whatever shares the purchase out; closed as soon as none can come any more."""
    rules = RULES.model_copy(update={"model": model})
    for surface, hours, converted in (
        ("search", 23.9, True),
        ("search", 24.0, False),
        ("home", 24.0, True),
        (None, 24 * 7 - 0.1, True),
        ("home", 24 * 7, False),
    ):
        row = labelled(surface, (3.0,), rules=rules, bought=hours)
        assert row["converted"] is converted, (surface, hours)
        assert row["conversion_value"] == 2.0 * converted
        assert row["conversion_known_at"] == (at(3 + hours) if converted else None)
    assert labelled("home", rules=rules)["matures_at"] == at(48 + 24 * 7)
    assert labelled("search", rules=rules)["matures_at"] == at(48 + 24)
    labels = pa.Table.from_pylist([labelled("search", (3.0,)), labelled("home")], LAKE["labels"].schema)
    assert as_known(labels, "converted", at(24 * 6), RULES.late_days).to_pylist() == [True, None]


def test_a_purchase_too_late_for_its_surface_is_of_no_earlier_click_either() -> None:
    """It came of the latest click: that this one is too old where it was shown makes no other one its reason."""
    row = labelled("search", (1.0, 30.0), bought=36.0)
    assert row["converted"] is True, "seven hours after the second click"
    assert labelled("search", (1.0, 2.0), bought=30.0)["converted"] is False


def test_without_rules_not_a_byte_differs() -> None:
    plain = RULES.model_copy(update={"surfaces": {}})
    for surface in ("feed", "notify", "search"):
        assert labelled(surface, (1.0, 25.0), (2.0,), plain) == labelled("home", (1.0, 25.0), (2.0,), plain)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"attribution": {"surfaces": {"feed": {"click_window_days": 2}}}},
            "at most the window of all, 1 day, 0:00:00; found 2",
        ),
        (
            {"attribution": {"window": "6h", "surfaces": {"feed": {"window_days": 1}}}},
            r"feed.window_days must be at most the window of all, 6:00:00; found 1",
        ),
        ({"attribution": {"surfaces": {"feed": {"click": "view"}}}}, "none is declared; found {'feed': 'view'}"),
        (
            {"outcomes": {"watch": {"kind": "value"}}, "attribution": {"surfaces": {"feed": {"click": "watch"}}}},
            "a click can be a binary outcome",
        ),
        (
            {"outcomes": {"view": {"window_days": 2}}, "attribution": {"surfaces": {"feed": {"click": "view"}}}},
            "within 1 days",
        ),
        (
            {"outcomes": {"view": {"through": "clicked"}}, "attribution": {"surfaces": {"feed": {"click": "view"}}}},
            "not through another",
        ),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(settings: dict[str, Any], reason: str) -> None:
    """A label that is open when its dataset is cut, or that nothing tells."""
    with pytest.raises(ValueError, match=reason):
        Config.model_validate(settings)


def test_they_are_read_from_the_environment() -> None:
    given = {
        "TIDEGATE__OUTCOMES": '{"long_view": {}}',
        "TIDEGATE__ATTRIBUTION__SURFACES": '{"feed": {"click": "long_view"}}',
    }
    assert config.load(given).attribution.surfaces["feed"].click == "long_view"
    with pytest.raises(Misconfigured, match="long_vew"):
        config.load({**given, "TIDEGATE__ATTRIBUTION__SURFACES": '{"feed": {"click": "long_vew"}}'})
