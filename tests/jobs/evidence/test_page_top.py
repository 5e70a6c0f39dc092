"""What a person reads in sixty seconds: the two gains, what is not known, who is hurt, the looks; then all else."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.evidence import gain, wording
from jobs.evidence.document import Document
from jobs.evidence.figures import Estimated
from jobs.evidence.gain import Gain
from jobs.evidence.judgement import Judgement
from models.settings import GateSettings, Margins
from tests.jobs.evidence.evidence_documents import Page, Tree, complete, judged, troubled, without_replay, written_once
from tests.jobs.evidence.evidence_documents import shown as shown_page

WHY_NOT = "a replay needs requests with candidates and a propensity; found none: 600 no propensity"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return written_once(tmp_path_factory.getbasetemp())


def shown(document: Tree, judgement: Tree | None = None) -> str:
    return Page(shown_page(document, judgement)).text


def part(text: str, first: str, after: str) -> str:
    """The page from a heading to another."""
    return text[text.index(first) : text.index(after)]


def test_a_person_meets_the_parts_in_the_order_of_the_questions(document: Tree) -> None:
    """Verdict, gains, what is open, who is hurt, looks, rules, pictures, where it comes from and the way back."""
    headings = (
        *("Promote All 17 rules", "Against what is shown now", "Against the champion", "What is not known yet"),
        *("Who is hurt", "How often was looked", "What the gate asked", "What a request earns", "Can the logs tell?"),
        *("What it rests on", "Champion and challenger apart", "Where it comes from", "How to roll back"),
    )
    text = shown(document, judged(document))
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)


# -- gains ---------------------------------------------------------------------------------------------------------
def against(document: Tree) -> dict[str, tuple[Tree, Tree, float]]:
    """What each tile is of, from the JSON."""
    value, logging = document["value"], document["logging"]
    return {
        "what is shown now": (logging["value"], logging["difference"], document["gate"]["confidence"]),
        "the champion": (value["champion"], value["difference"], 1 - document["risk"]["risk"]),
    }


def lift(figure: float) -> str:
    size = 100 * abs(figure)
    digits = 0 if size >= 100 else 1 if size >= 0.95 else 2
    return f"{'−' if figure < 0 else '+'}{size:,.{digits}f}%"


def clicks(figure: float) -> str:
    size = abs(figure)
    return f"{'−' if figure < 0 else '+'}{size:,.0f}" if size >= 9.95 else f"{'−' if figure < 0 else '+'}{size:.2g}"


@pytest.mark.parametrize("days", [1, 3])
def test_each_tile_says_what_the_challenger_gains_and_how_likely_it_is_none(document: Tree, days: int) -> None:
    """Counted anew: percent of what the other earns, clicks of a day's requests, and the normal tail below zero."""
    changed = copy.deepcopy(document)
    changed["judged_on"][0]["days"] = ["2026-01-07", "2026-01-09", "2026-01-10"][:days]  # one between was lost
    changed["replay"] |= {"share": 0.8, "whole": [-0.1, 0.3]}
    changed["replay"]["requests"] |= {"session_replay": 400, "slate_re_ranking": 100, "click_unknown": 7}
    changed["value"]["difference"] |= {"value": 0.02, "stderr": 0.0102, "low": -0.004, "high": 0.044}
    text = shown(changed)
    a_day = changed["data"]["decisions"] / 0.8 / days
    for name, (other, difference, confidence) in against(changed).items():
        value, low, high = (difference[end] for end in ("value", "low", "high"))
        of = other["value"]
        p = 0.5 * math.erfc(value / difference["stderr"] / math.sqrt(2))
        said = f"1 in {1 / p:.0f}" if p >= 0.001 else "< 1 in 1,000"
        assert (
            f"Against {name} {lift(value / of)} clicks per request; {100 * confidence:.3g}% interval"
            f" {lift(low / of)} to {lift(high / of)} Clicks a day {clicks(value * a_day)} {clicks(low * a_day)} to"
            f" {clicks(high * a_day)} Chance of being worse {said}"
        ) in text
    assert f"A day has {a_day:.0f} requests, those not replayed taken to gain like the others." in text


def test_a_gain_that_cannot_be_told_says_why_on_its_tile(document: Tree) -> None:
    bare = without_replay(document, WHY_NOT)
    text = part(shown(bare, judged(bare)), "Against what is shown now", "What is not known yet")
    assert text.count(f"Cannot be told A{WHY_NOT[1:]}.") == 2
    half = copy.deepcopy(document)
    half["value"]["difference"] = {"refused": "they choose alike", "n": 400, "effective_n": 121.0}
    text = part(shown(half), "Against what is shown now", "What is not known yet")
    assert text.count("Cannot be told") == 1
    assert "Against the champion Cannot be told They choose alike." in text
    assert lift(document["logging"]["difference"]["value"] / document["logging"]["value"]["value"]) in text


def test_against_a_champion_that_earns_nothing_a_gain_is_told_in_clicks(document: Tree) -> None:
    """Nothing divided by, nothing invented."""
    changed = copy.deepcopy(document)
    changed["value"]["champion"] |= {"value": 0.0, "low": 0.0, "high": 0.0, "stderr": 0.0}
    assert f"Against the champion +{changed['value']['difference']['value']:.4f} clicks per request;" in shown(changed)


@given(st.floats(-1, 1), st.floats(1e-6, 1), st.floats(0.1, 1e6))
def test_the_chance_of_being_worse_is_that_of_its_own_mirror_image(value: float, stderr: float, a_day: float) -> None:
    """Better and worse are certain together, and what is exactly as good is worse in half the cases."""
    found = {"low": value - stderr, "high": value + stderr, "n": 9, "effective_n": 9.0}
    there, back = (
        Gain("x", est(0.1), est(sign * value, stderr=stderr, **ends(sign, found)), 0.95, a_day).chance_of_worse
        for sign in (1, -1)
    )
    assert there is not None
    assert back is not None
    assert there + back == pytest.approx(1)
    assert (there < 0.5) == (value > 0) or math.isclose(there, 0.5)


def ends(sign: int, found: dict[str, float]) -> dict[str, Any]:
    low, high = sorted((sign * found["low"], sign * found["high"]))
    return {**found, "low": low, "high": high}


def est(value: float, **more: Any) -> Any:
    return Estimated(**{"value": value, "stderr": 0.0, "low": value, "high": value, "n": 9, "effective_n": 9.0, **more})


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (None, "not known"),
        (0.0, "< 1 in 1,000"),
        (0.0009, "< 1 in 1,000"),
        (0.001, "1 in 1,000"),
        (0.025, "1 in 40"),
        (0.1, "1 in 10"),
        (0.27, "27 in 100"),
        (0.99, "99 in 100"),
        (1.0, "> 99 in 100"),
    ],
)
def test_a_chance_is_said_as_a_bet(p: float | None, said: str) -> None:
    assert wording.chance(p) == said


def test_one_effective_n_is_told_wherever_one_is(document: Tree) -> None:
    """That of the believed difference: beside the tiles, in the value's rules, and where the logs are judged."""
    text = shown(document, judged(document))
    n = f"{document['value']['difference']['effective_n']:.0f}"
    assert f"Of 400 replayed decisions, worth {n} that all count alike" in text
    assert f"the difference is worth {n} decisions that all count alike" in text
    told = [rule["reason"] for rule in judged(document)["rules"] if rule["name"] in ("value", "logging")]
    assert all(reason.endswith(f"effective n {n}") for reason in told)


# -- not known yet -------------------------------------------------------------------------------------------------
def test_what_is_open_is_told_with_the_day_it_closes(document: Tree) -> None:
    changed = copy.deepcopy(document)
    changed["data"]["test_rows_known"] = changed["test_rows"] = 1190
    text = part(shown(changed, judged(changed)), "What is not known yet", "Who is hurt")
    assert "10 of 1,200 test impressions may still be clicked; all clicks are known by the end of 2026-01-17." in text
    assert "0 of 400 replayed decisions have a closed label; the last closes at the end of 2026-01-17" in text
    whole = part(shown(complete(document)), "What is not known yet", "Who is hurt")
    assert "closed label" not in whole
    assert "requests" not in whole


def test_requests_that_were_not_replayed_bound_the_whole(document: Tree) -> None:
    """Of those in the replay the value is said, of all only between which ends it lies."""
    changed = copy.deepcopy(document)
    changed["replay"] |= {"share": 0.8, "whole": [-0.0123, 0.3456]}
    changed["replay"]["requests"] |= {"session_replay": 400, "slate_re_ranking": 100}
    changed["data"]["left_out"] |= {"requests": 500, "no_candidates": 60, "no_propensity": 40}
    text = part(shown(changed), "What is not known yet", "Who is hurt")
    assert "100 of 500 requests were not replayed (60 no candidates, 40 no propensity of 500)" in text
    assert "the figures above are of the 80% that were" in text
    assert "between −0.0123 and +0.3456 clicks per request" in text
    bare = without_replay(document, WHY_NOT)
    bare["data"]["left_out"] = {"requests": 600, "no_propensity": 600, "click_unknown": 0}
    text = part(shown(bare, judged(bare)), "What is not known yet", "Who is hurt")
    assert "None of 600 requests was replayed (600 no propensity of 600)" in text
    assert "Conversions do not fall" not in text


@pytest.mark.parametrize(
    ("power", "said"),
    [
        ((0.024, 1, 5.76), "(one day of logs) show a lift of 2.4% over the champion in 4 of 5 cases; a lift of 1% needs"
         " about 5.8 such days."),
        ((0.4959, 3, 2459.1), "(3 days of logs) show a lift of 49.6% over the champion in 4 of 5 cases; a lift of 1%"
         " needs about 2,500 such days."),
    ],
)  # fmt: skip
def test_power_comes_before_the_question(document: Tree, power: tuple[float, int, float], said: str) -> None:
    told = dict(zip(("detectable_lift", "days", "days_for_one_percent"), power, strict=True))
    assert f"Logs like these {said}" in part(shown(document | {"power": told}), "What is not known yet", "Who is hurt")
    assert "Logs like these" not in shown(document | {"power": None})


def test_a_rule_that_had_no_answer_is_told_with_its_reason(document: Tree) -> None:
    judgement = judged(document)
    judgement["rules"][-1] |= {"outcome": "unknown", "figure": None, "reason": "nobody has measured it"}
    text = part(shown(document, judgement), "What is not known yet", "Who is hurt")
    assert "Fast enough Nobody has measured it." in text


# -- who is hurt ---------------------------------------------------------------------------------------------------
def slice_of(attribute: str, value: str, figure: float, n: int) -> Tree:
    found = {"value": figure, "stderr": 0.005, "low": figure - 0.012, "high": figure + 0.012}
    return {
        **{"attribute": attribute, "value": value, "n": n, "share": n / 400},
        "difference": {**found, "n": n, "effective_n": float(n)},
    }


def test_who_loses_clicks_is_named_first_and_the_worst_stands_on_top(document: Tree) -> None:
    """Value by surface, for new items and for users nobody knows, not only AUC."""
    parts = [
        slice_of("surface", "home", 0.021, 310),
        slice_of("item_age", "new", -0.004, 60),
        slice_of("surface", "search", -0.018, 90),
        slice_of("user_known", "unknown", 0.003, 50),
    ]
    refused = {"refused": "the difference needs at least 5 clicks", "n": 40, "effective_n": 3.0}
    parts.append(slice_of("item_category", "shoes", 0, 40) | {"difference": refused})
    text = part(shown(document | {"value_slices": parts}), "Who is hurt", "How often was looked")
    assert "Worse for sure: surface: search." in text
    rows = [
        "surface: search 90 decisions, 22.5% −0.0180 −0.0300 to −0.0060 worse for sure",
        "items: new shown first in 15% of decisions; clicks on them per request −0.0040 −0.0160 to +0.0080",
        "users: unknown 50 decisions, 12.5% +0.0030 −0.0090 to +0.0150",
        "surface: home 310 decisions, 77.5% +0.0210 +0.0090 to +0.0330",
        "clicks on them per request the difference needs at least 5 clicks refused",
        "AUC in 13 parts of the traffic, which the gate asks",
    ]
    places = [text.index(row) for row in rows]
    assert places == sorted(places)
    nobody = part(shown(document | {"value_slices": parts[:2]}), "Who is hurt", "How often was looked")
    assert "Nobody for sure." in nobody
    assert "Worse for sure" not in nobody


def test_parts_in_auc_fold_away_unless_one_lost(document: Tree) -> None:
    """What the gate holds for must be seen without a click."""

    def folded(shape: Tree) -> list[bool]:
        tags = Page(shown_page(shape)).tags
        return ["open" not in found for tag, found in tags if tag == "details"][:1]

    assert folded(document) == [True]
    assert folded(troubled(document)) == [False]


# -- looks and rules -----------------------------------------------------------------------------------------------
def test_this_look_stands_below_those_before_it(document: Tree) -> None:
    look = {"number": 3, "at": "2026-01-07T06:10:00+00:00", "day": "2026-01-07", "mode": "warm", "risk": 0.0123}
    looks = [look | {"candidate_id": "xgboost-warm-2026-01-07", "verdict": "hold"}]
    changed = {**document, "risk": {"look": 4, "risk": 0.0025, "shared": 0.05, "days": 14, "looks": looks}}
    table = part(shown(changed, judged(changed)), "How often was looked", "What the gate asked")
    assert table.index("xgboost-warm-2026-01-07 Hold 1.23%") < table.index(
        "4 this one 2026-01-08, full logistic-full-2026-01-08 Promote 0.25%"
    )
    bare = without_replay(document, WHY_NOT)
    assert "logistic-full-2026-01-08 Refuse given back" in shown(bare, judged(bare))


def test_a_rule_that_is_not_asked_is_told_with_its_setting(document: Tree) -> None:
    """Of every setting that may be none: with it the verdict has the rule, without it the page says who is missing."""
    every = judged(document)
    names = {rule["name"] for rule in every["rules"]}
    optional = {f"gate.{name}" for name, field in GateSettings.model_fields.items() if "None" in str(field.annotation)}
    optional |= {f"gate.must_not_fall.{name}" for name in Margins.model_fields}
    optional -= {"gate.max_incomplete_share", "gate.min_propensity"}  # guards of the value, no rules of their own
    gate = copy.deepcopy(document["gate"]) | dict.fromkeys(
        path.removeprefix("gate.") for path in optional if "must_not_fall" not in path
    )
    gate["must_not_fall"] = dict.fromkeys(gate["must_not_fall"])
    silent = document | {"gate": gate, "mode": "warm"}
    found = judged(silent)
    told = wording.not_asked(Judgement.model_validate(found), Document.model_validate(silent))
    optional.remove("gate.max_conversion_drop_so_far")  # asked only where there is a delay curve
    assert {why.removesuffix(" is none") for _, why in told} == optional
    left = {rule["name"] for rule in found["rules"]}
    assert {wording.rule_name(name) for name in names - left} <= {words for words, _ in told}
    assert not {wording.rule_name(name) for name in left} & {words for words, _ in told}
    text = part(shown(silent, found), "What the gate asked", "What a request earns")
    for words, why in told:
        assert f"{words} {why} not asked" in text
    text = part(shown(document, every), "What the gate asked", "What a request earns")
    assert text.count("not asked") == 7
    assert "max_warm_loss" not in text


# -- the rest ------------------------------------------------------------------------------------------------------
def test_the_balance_of_the_weights_is_told_and_opens_where_it_is_off(document: Tree) -> None:
    text = shown(document)
    assert f"None of {document['diagnostics']['groups']} groups is off" in text
    first = document["diagnostics"]["balance"][0]
    apart = (first["found"] - first["expected"]) / first["stderr"]
    row = f"{first['expected']:.4f} {first['found']:.4f} ± {first['stderr']:.4f} −{abs(apart):.1f}"
    assert f"{first['group'].replace('_', ' ')} {first['side']} {row}" in text
    changed = copy.deepcopy(document)
    changed["diagnostics"]["balance"][0]["off"] = True
    assert f"1 of {document['diagnostics']['groups']} groups are off" in shown(changed)
    assert f"{row} off" in shown(changed)


def test_what_the_difference_rests_on_is_told(document: Tree) -> None:
    of = document["diagnostics"]["difference"]
    assert (
        f"differ in {100 * of['differing']:.3g}% of 400 decisions. Their difference rests on what they do not share:"
        f" {of['gained']:.0f} equally weighted clicks on what the challenger is likelier to show, {of['lost']:.0f} on"
        " what the champion is"
    ) in shown(document)


def test_predicted_conversions_stand_beside_what_is_true(document: Tree) -> None:
    sides = [document["calibration"][side]["predicted_conversion"] for side in ("champion", "challenger")]
    told = [f"{100 * figure:.3g}%" for figure in (*sides, document["truth"]["p_conversion"])]
    assert (
        f"Predicted on average for the test impressions: {told[0]} by the champion, {told[1]} by the challenger;"
        f" in this simulated world {told[2]} is true."
    ) in shown(document)


def test_only_what_differs_between_the_bundles_is_told(document: Tree) -> None:
    changed = copy.deepcopy(document)
    same = {"mode": "full", "settings": {"seed": 7, "xgboost": {"rounds": 50}}, "columns": ["age", "price", "hour"]}
    changed["champion"]["lineage"] |= same
    changed["challenger"]["lineage"] |= copy.deepcopy(same)
    changed["challenger"]["lineage"]["settings"]["xgboost"]["rounds"] = 80
    changed["challenger"]["lineage"]["columns"] = ["age", "hour", "stock"]
    changed["challenger"]["lineage"]["started_from"] = {"candidate_id": "xgboost-full-2026-01-01"}
    text = part(shown(changed), "Champion and challenger apart", "Where it comes from")
    assert "ranker popularity logistic" in text
    assert "settings.xgboost.rounds 50 80" in text
    assert "columns price stock" in text
    assert "started from.candidate id none xgboost-full-2026-01-01" in text
    assert "seed" not in text
    assert "policy" not in text
    alike = copy.deepcopy(document)
    alike["challenger"]["ranker"] = alike["champion"]["ranker"]
    assert "Ranker, policy, settings and data are the same." in shown(alike)


def test_the_way_back_is_there_where_there_is_one(document: Tree) -> None:
    assert "There is nothing to roll back to" in shown(document)
    served = {**document, "mode": "warm", "champion": {**document["champion"], "deployed": True}}
    text = shown(served)
    assert "python -m jobs rollback --day 2026-01-08 --mode warm --approved-by NAME" in text
    for mode, dag in (("full", "weekly_training"), ("warm", "daily_warm_start")):
        assert f"DAG {dag} for 2026-01-08" in shown(served | {"mode": mode})
        assert (Path(__file__).parents[3] / "dags" / f"{dag}.py").is_file()


def test_a_day_has_the_requests_of_the_days_the_test_spans(document: Tree) -> None:
    assert gain.requests_a_day(Document.model_validate(document)) == document["data"]["left_out"]["requests"]
