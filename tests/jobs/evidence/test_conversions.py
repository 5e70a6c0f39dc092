"""Conversions count once their labels are closed, never because one is known early; and which kind of replay it is."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs import bundle
from jobs.config import Config
from jobs.evidence import core
from jobs.evidence.document import Document, Replay
from jobs.evidence.scored import Pair
from jobs.lake.store import midnight
from jobs.lake.tables import TIME
from models.delays.curve import DelayCurve
from models.delays.observed import Observed
from models.evaluation.estimate import Estimate, Refusal
from models.evaluation.gate import Evidence, judge
from models.evaluation.rules import Rule
from models.settings import GateSettings
from tests.jobs.evidence.evidence_documents import Page, of_rows, seen_by_the_gate, shown
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import DAY, SLATE, TEST_DAY, World, a_run, examples, publish_all, settings

N = 600
BUYS = 0.5
"""P(conversion | click) here."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Pair]:
    config = settings(tmp_path_factory.mktemp("lake"), tmp_path_factory.getbasetemp(), gate__bootstrap_replicates="50")
    publish_all(config, World(), n=N // 2, train_days=1)
    rows = publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    champion, challenger = (bundle.load(Path(row["bundle"]), row["bundle_sha256"]) for row in rows)
    return config, (champion, challenger)


def bought(seed: int = 0) -> pa.Table:
    """The test rows with every conversion known."""
    rows = examples(World(), TEST_DAY, "test", N)
    clicked = rows["clicked"].to_numpy(zero_copy_only=False)
    return converted(rows, clicked & (np.random.default_rng(seed).random(len(rows)) < BUYS))


def converted(rows: pa.Table, values: Any) -> pa.Table:
    at = rows.schema.get_field_index("converted")
    return rows.set_column(at, rows.schema.field("converted"), pa.array(list(values), pa.bool_()))


def as_of(rows: pa.Table, closed: float) -> pa.Table:
    """What a dataset holds of them where the labels of only the day's first part are closed."""
    times = rows["event_time"].to_pylist()
    until = min(times) + closed * (max(times) - min(times) + timedelta(seconds=1))
    return converted(
        rows, [value if at < until else None for value, at in zip(rows["converted"].to_pylist(), times, strict=True)]
    )


def test_closed_conversions_are_estimated_as_clicks_are(lake: tuple[Config, Pair]) -> None:
    """Half of all clicks convert, so every side must earn about half its clicks, and the logs exactly their share."""
    config, pair = lake
    rows = bought()
    found = of_rows(a_run("backtest", config), rows, pair)
    section = found["conversions"]
    assert (section["decisions"], section["closed"], section["closes_on"]) == (N, N, "2026-01-17")
    first = np.arange(len(rows)) % SLATE == 0
    assert section["logging"]["value"] == pytest.approx(rows["converted"].to_numpy(zero_copy_only=False)[first].mean())
    for side in ("champion", "challenger"):
        assert abs(section[side]["value"] - BUYS * found["value"][side]["value"]) < 3 * section[side]["stderr"]
    assert section["difference"]["low"] > 0
    assert core.figures(Document.model_validate(found))["conversions.difference"] == section["difference"]["value"]


@pytest.mark.parametrize(("closed", "told"), [(0.0, "found 0,"), (0.5, "found 3")])
def test_open_conversions_are_refused_with_the_day_they_close(
    lake: tuple[Config, Pair], closed: float, told: str
) -> None:
    config, pair = lake
    section = of_rows(a_run("backtest", config), as_of(bought(), closed), pair)["conversions"]
    for side in ("champion", "challenger", "difference", "logging"):
        assert "at least 90% of 600 decisions" in section[side]["refused"]
        assert told in section[side]["refused"]
        assert "the last one closes at the end of 2026-01-17" in section[side]["refused"]


def test_a_part_of_closed_labels_gives_the_figure_of_that_part(lake: tuple[Config, Pair]) -> None:
    """95 % closed: as if the day had ended there, not as if nobody had bought afterwards."""
    config, pair = lake
    part = as_of(bought(), 0.95)
    section = of_rows(a_run("backtest", config), part, pair)["conversions"]
    closed = part.filter(part["converted"].is_valid())
    alone = of_rows(a_run("backtest", config), closed, pair)["conversions"]
    assert N > section["closed"] == alone["decisions"] > 0.9 * N
    for side in ("champion", "challenger", "difference", "logging"):
        assert section[side] == pytest.approx(alone[side])


def rule(document: dict[str, Any], **settings: Any) -> Rule:
    """What the gate says of conversions."""
    gate = GateSettings(min_effective_n=50, min_test_rows=100, **settings)
    (found,) = (r for r in judge(seen_by_the_gate(document), gate).rules if r.name == "conversions")
    return found


def test_the_gate_asks_for_conversions_once_they_are_closed(lake: tuple[Config, Pair]) -> None:
    """A guardrail: closed and no loss passes, a loss for sure holds, one that may be none does not; open is not known.

    The challenger earns more clicks all the while, so nothing but the guardrail can see that what it sells falls.
    """
    config, pair = lake
    run = a_run("backtest", config)
    gained = of_rows(run, bought(), pair)
    assert rule(gained).outcome == "pass"
    fell = of_rows(run, converted(bought(), disliked(bought())), pair)
    harm = rule(fell)
    assert fell["value"]["difference"]["low"] > 0
    assert (harm.outcome, harm.figure) == ("hold", fell["conversions"]["difference"]["high"])
    assert harm.bound == pytest.approx(-0.1 * fell["conversions"]["champion"]["value"])
    assert rule(fell, max_conversion_drop=1.0).outcome == "pass"
    evens = of_rows(run, converted(bought(), np.random.default_rng(1).random(len(bought())) < 0.2), pair)
    low, high = (evens["conversions"]["difference"][end] for end in ("low", "high"))
    assert low < -0.1 * evens["conversions"]["champion"]["value"] < high, "it may have fallen by more, and may not"
    assert rule(evens).outcome == "pass"
    open_ = rule(of_rows(run, as_of(bought(), 0.5), pair))
    assert (open_.outcome, open_.figure, open_.bound) == ("unknown", None, None)
    assert "the last one closes at the end of 2026-01-17" in open_.reason
    gate = GateSettings(max_conversion_drop=None)
    assert "conversions" not in {r.name for r in judge(seen_by_the_gate(gained), gate).rules}


def test_before_they_close_the_delay_curve_tells_them(lake: tuple[Config, Pair]) -> None:
    """Two in five of what will be bought have been heard of by the cut: as many times over, they are what closes later.

    The curve is that of a training whose conversions came as fast.
    """
    config, (champion, challenger) = lake
    curve = soon_within(10.0)
    pair = champion, replace(challenger, delays=curve)
    rows = heard_so_far(bought(), curve.horizon)
    run = a_run("backtest", config)
    found = of_rows(run, rows, pair)
    early = found["conversions_so_far"]
    assert found["conversions"]["closed"] == 0
    assert (early["decisions"], early["counted"], early["drifted"]) == (N, N, False)
    assert early["seen"] == pytest.approx(0.38, abs=0.02), "between one day and two, of ten"
    later = of_rows(run, bought(), pair)
    closed = later["conversions"]
    for side in ("champion", "challenger", "difference", "logging"):
        assert early[side]["low"] < closed[side]["value"] < early[side]["high"]
        assert early[side]["stderr"] > 1.5 * closed[side]["stderr"]
        assert later["conversions_so_far"][side] == pytest.approx(closed[side]), "once closed they are one figure"
    assert "conversions_so_far" not in of_rows(run, rows, lake[1]), "its training had no curve"
    figures = core.figures(Document.model_validate(found))
    assert figures["conversions_so_far.against_logging"] == early["against_logging"]["value"]
    page = Page(shown(found)).text
    assert "By the delay curve" in page
    assert "conversions of 600 decisions have been heard of" in page
    assert "By the delay curve challenger minus champion will be" in page


@pytest.mark.parametrize(
    ("champion", "difference", "outcome"),
    [
        ((0.05, 0.04, 0.06), (-0.02, -0.03, -0.01), "hold"),
        ((0.05, 0.04, 0.06), (-0.02, -0.05, 0.0), "pass"),
        (None, None, "unknown"),
    ],
)
def test_what_they_will_come_to_can_hold_and_never_promotes(
    champion: Any, difference: Any, outcome: str, lake: tuple[Config, Pair]
) -> None:
    """A sure loss of more than a tenth by the curve holds; what may be none, or has no interval, is nothing."""

    def estimate(of: Any) -> Any:
        return Estimate(of[0], 0.005, of[1], of[2], 500, 500.0) if of else Refusal("too young")

    config, pair = lake
    evidence = seen_by_the_gate(of_rows(a_run("backtest", config), bought(), pair))
    found = {"champion": estimate(champion), "difference": estimate(difference)}
    seen = replace(evidence, conversions_so_far=found)
    assert judge_of(seen)["conversions_so_far"].outcome == outcome
    assert "conversions_so_far" not in judge_of(evidence), "no curve"
    assert "conversions_so_far" not in judge_of(seen, max_conversion_drop_so_far=None)


def judge_of(evidence: Evidence, **settings: Any) -> dict[str, Rule]:
    return {rule.name: rule for rule in judge(evidence, GateSettings(**settings)).rules}


def soon_within(horizon: float) -> DelayCurve:
    """The curve of a training of which half had come after a quarter of the horizon."""
    delay = horizon * np.random.default_rng(0).random(4_000) ** 2
    return DelayCurve.fit(Observed.of(np.full(4_000, horizon), delay, horizon))


def heard_so_far(rows: pa.Table, horizon: float) -> pa.Table:
    """As a dataset has them the day after: all of them open, and heard of what came by then."""
    shown_at = rows["event_time"].to_pylist()
    waits = horizon * np.random.default_rng(5).random(len(rows)) ** 2
    cut = midnight(DAY + timedelta(days=1))
    heard = [
        at + timedelta(days=float(wait)) if buys and at + timedelta(days=float(wait)) < cut else None
        for at, wait, buys in zip(shown_at, waits, rows["converted"].to_pylist(), strict=True)
    ]
    at = rows.schema.get_field_index("conversion_heard_at")
    open_ = converted(rows, [None] * len(rows))
    return open_.set_column(at, rows.schema.field("conversion_heard_at"), pa.array(heard, TIME))


def test_a_team_that_sells_nothing_is_not_stopped_by_it(lake: tuple[Config, Pair]) -> None:
    """No conversion at all: there is nothing to lose, and the reason says what was found."""
    config, pair = lake
    found = rule(of_rows(a_run("backtest", config), converted(bought(), [False] * len(bought())), pair))
    assert found.outcome == "unknown"
    assert found.reason


def test_the_risk_of_a_look_does_not_loosen_the_guardrail(lake: tuple[Config, Pair]) -> None:
    """A wider interval would see less harm: it is told at the gate's own confidence, whatever is left to spend."""
    config, pair = lake
    document = of_rows(a_run("backtest", config), bought(), pair)
    late = of_rows(a_run("backtest", config), bought(), pair, risk=0.0001)
    assert late["value"]["difference"]["low"] < document["value"]["difference"]["low"]
    assert late["conversions"] == document["conversions"]


def disliked(rows: pa.Table) -> Any:
    """Which of the rows the challenger would rather not have shown."""
    return rows["user_item_interest"].to_numpy() == 1.0


def without_propensity(rows: pa.Table, requests: int) -> pa.Table:
    """The first `requests` requests as a log that never kept one."""
    kept = [None if n < requests * SLATE else p for n, p in enumerate(rows["propensity"].to_pylist())]
    at = rows.schema.get_field_index("propensity")
    return rows.set_column(at, rows.schema.field("propensity"), pa.array(kept, pa.float64()))


@pytest.mark.parametrize(("missing", "kind"), [(0, "session_replay"), (200, "session_replay"), (N, "slate_re_ranking")])
def test_it_says_which_kind_of_replay_it_is(lake: tuple[Config, Pair], missing: int, kind: str) -> None:
    """Logs may be mixed; what is only re-ranked never becomes a value."""
    config, pair = lake
    found = of_rows(a_run("backtest", config), without_propensity(bought(), missing), pair)
    told = Replay.model_validate(found["replay"])
    assert told.kind == kind
    assert told.requests == {"session_replay": N - missing, "slate_re_ranking": missing, "click_unknown": 0}
    assert ("refused" in found["value"]["difference"]) == (kind == "slate_re_ranking")
    assert "value" in found["comparison"]["ndcg_at_10"]["difference"]
    if kind == "slate_re_ranking":
        rules = {rule.name: rule.outcome for rule in judge(seen_by_the_gate(found), GateSettings()).rules}
        assert rules["value"] == "refuse"
        assert found["pages"]["depths"] == {}
        assert "no value" in told.cannot_say
