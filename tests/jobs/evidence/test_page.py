"""The evidence page: every figure it must show is there as text, nothing on it is anybody else's markup."""

import copy
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.evidence import charts, wording
from jobs.evidence.charts import Mark, Scale
from jobs.evidence.document import Document
from jobs.evidence.judgement import JudgedRule, Judgement
from tests.jobs.evidence.evidence_documents import Page, Tree, complete, judged, troubled, without_replay, written_once
from tests.jobs.evidence.evidence_documents import shown as shown_page

WHY_NOT = "a replay needs requests with candidates and a propensity; found none: 600 no propensity"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return written_once(tmp_path_factory.getbasetemp())


def shown(document: Tree, judgement: Tree | None = None) -> str:
    return Page(shown_page(document, judgement)).text


def said(figure: float, sign: bool = False) -> str:
    """By hand what the page must say of a figure below 10."""
    text = "0" if figure == 0 else f"{abs(figure):.4f}" if abs(figure) >= 1e-4 else f"{abs(figure):.1g}"
    text = f"{abs(figure):.0f}" if figure == int(figure) else text
    return ("−" if figure < 0 else "+" if sign and figure > 0 else "") + text


def whole(finding: Tree, sign: bool = False) -> str:
    low, value, high = (said(finding[part], sign) for part in ("low", "value", "high"))
    return f"{value} {low} to {high}"


def test_the_figures_of_every_metric_value_estimator_and_slice_are_on_the_page(document: Tree) -> None:
    """As selectable text beside the charts, difference with its interval."""
    text = shown(document, judged(document))
    shown_whole = {"precision_at_3", "hit_rate_at_3"}  # pages of three have all their clicks among the first three
    for metric, sides in document["comparison"].items():
        if metric in shown_whole:
            assert sides["difference"]["refused"] in text, metric
            continue
        before, after = (said(sides[side]["value"]) for side in ("champion", "challenger"))
        assert f"{before} {after} {whole(sides['difference'], True)}" in text, metric
    for side in ("champion", "challenger"):
        assert whole(document["value"][side]) in text
    assert whole(document["logging"]["value"]) in text
    for sides in (document["value"], *document["estimators"].values()):
        assert whole(sides["difference"], True) in text
    assert whole(document["marginal"]["difference"], True) in text
    assert wording.apart(Document.model_validate(document)) in text
    first = document["pages"]["depths"]["1"]
    before, after = (said(first[side]["value"]) for side in ("champion", "challenger"))
    row = f"worth {first['difference']['effective_n']:.0f} pages {before} {after} {whole(first['difference'], True)}"
    assert f"First place {row}" in text
    assert f"First 3 places {row}" in shown(complete(document))
    for part in document["slices"]["slices"]:
        assert f"{part['n']:,} rows" in text
        assert whole(part["difference"], True) in text
    for side in ("champion", "challenger"):
        error = document["calibration"][side]["error"]
        assert f"Calibration error {said(error['value'])} ({said(error['low'])} to {said(error['high'])})" in text
        ratio = document["calibration"][side]["ratio"]
        ends = f"{ratio['value']:.3g} × the clicks [{ratio['low']:.3g}, {ratio['high']:.3g}]"
        assert f"were clicked. It predicts {ends}. Calibration error" in text
        weights = document["diagnostics"]["weights"][side]
        assert f"{weights['mean_weight']:.3f} ± {weights['mean_weight_stderr']:.3f}" in text
    assert f"difference {said(document['truth']['difference'], True)}. The gate never sees it." in text
    for limitation in document["limitations"]:
        assert limitation in text
    for fact in ("bundle_sha256", "candidate_id"):
        assert document["challenger"][fact] in text
        assert document["champion"][fact] in text
    assert document["lineage"]["config_hash"] in text
    assert f"examples v{document['data']['versions']['examples']}" in text


def test_the_verdict_comes_first_and_every_rule_has_its_row(document: Tree) -> None:
    judgement = judged(document)
    text = shown(document, judgement)
    assert judgement["verdict"] == "promote"
    assert (
        text.index("All 17 rules that can be asked are cleared")
        < text.index("What the gate asked")
        < text.index("What a request earns")
    )
    for rule in judgement["rules"]:
        assert rule["reason"] in text
    assert text.count("✓") == 0  # drawn by the style sheet: nobody has to hear it seventeen times
    assert text.count(" cleared") == len(judgement["rules"]) - 1 + 2
    assert text.count(" not known") == 2 + 1  # conversions, in the headline and in their row; and a heading


def test_before_promote_the_page_says_that_nobody_judged_it(document: Tree) -> None:
    text = shown(document)
    assert "Not judged yet" in text
    assert "What the gate asked" not in text


def test_a_hold_names_what_stands_in_the_way(document: Tree) -> None:
    """Slices that lost, a reversal in words, columns that differ: each is told, and the slice is the first of all."""
    bad = troubled(document)
    judgement = judged(bad)
    text = shown(bad, judgement)
    # Features at replay other than trained on mean that the evidence is about something else: a refusal.
    assert judgement["verdict"] == "refuse"
    assert text.count("cannot tell") == 1
    assert text.count("not cleared") == 2
    lost = bad["slices"]["slices"][0]
    assert "home −0.0041, search −0.0093." in text[text.index("Who is hurt") :]
    section = text[text.index("AUC in 13 parts") :]
    names = [wording.slice_name(part["attribute"], "") for part in bad["slices"]["slices"]]
    assert section.index(f"{names[0]}{lost['value']}") == min(section.index(name) for name in names)
    assert "−0.1100 −0.1600 to −0.0600 worse than allowed" in section
    assert "auc needs clicked and unclicked rows; found 0 of 900" in section
    assert "differ from those trained on in 50% of decisions: user_clicks in 25%, item_price in 30%." in section
    assert "clicks.after_impression on 1 day, last 2026-01-05 (12 rows)" in section


def test_conversions_stand_beside_clicks_once_they_are_closed(document: Tree) -> None:
    """Before, the page says how many are, and when the last will be."""
    text = shown(document)
    assert "0 of 400 replayed decisions have a closed label" in text
    assert document["conversions"]["difference"]["refused"] in text
    assert "The last closes at the end of 2026-01-17" in text
    later = shown(complete(document))
    assert "400 of 400 replayed decisions have a closed label" in later
    before, after, apart = (document["value"][side] for side in ("champion", "challenger", "difference"))
    figures = f"{said(before['value'])} {said(after['value'])} {whole(apart, True)}"
    row = f"those of the first placement; may fall by 10% {figures}"
    assert row in later[later.index("Conversions per request") :]


def test_the_page_tells_how_often_was_looked_and_what_that_leaves(document: Tree) -> None:
    """Beside the figures it widened: what was spent before, by which evidence, and what came of it."""
    text = shown(document)
    assert "None came before this one. This one is number 1 and spends 1.67%" in text
    look = {"number": 1, "at": "2026-01-07T06:10:00+00:00", "day": "2026-01-07", "mode": "warm", "risk": 0.0123}
    looks = [
        look | {"candidate_id": "xgboost-warm-2026-01-07", "verdict": "hold"},
        look | {"number": 2, "mode": "full", "candidate_id": "logistic-full-2026-01-07", "verdict": "refuse"},
        look | {"number": 3, "mode": "full", "candidate_id": None, "verdict": None},
    ]
    text = shown({**document, "risk": {"look": 4, "risk": 0.0025, "shared": 0.05, "days": 14, "looks": looks}})
    assert "any 14 days share one risk of 5%" in text
    assert "3 came before this one and spent 2.46%. This one is number 4 and spends 0.25%" in text
    assert "the interval of the value's difference is one of 99.8%" in text
    assert "1 2026-01-07 06:10 2026-01-07, warm xgboost-warm-2026-01-07 Hold 1.23%" in text
    assert "2 2026-01-07 06:10 2026-01-07, full logistic-full-2026-01-07 Refuse given back" in text
    assert "3 2026-01-07 06:10 2026-01-07, full Not judged yet 1.23%" in text


def test_the_page_says_which_kind_of_replay_it_is_and_what_that_cannot_say(document: Tree) -> None:
    for shape, kind in ((document, "Session replay."), (without_replay(document, WHY_NOT), "Slate re-ranking.")):
        text = shown(shape)
        earns, ranks = text.index("What a request earns"), text.index("How well they rank and predict")
        assert earns < text.index(kind) < text.index(shape["replay"]["cannot_say"]) < ranks
        assert shape["replay"]["can_say"] in text
        assert "it is no estimate of what users would have clicked" in text[ranks:]
    assert "0 of 600 requests are replayed; 600 are re-ranked only" in text
    assert "Down the page" not in text


def test_what_no_weights_can_carry_is_said_in_the_depths_row(document: Tree) -> None:
    depths = document["pages"]["depths"]
    assert list(depths) == ["1", "2"]  # 400 requests are too few for two places
    reason = depths["2"]["difference"]["refused"]
    assert "effective n of at least" in reason
    text = shown(document)
    assert f"First 2 places {said(depths['2']['champion']['value'])} refused {reason} refused" in text
    assert "Further down than 2 nothing was tried." in text


def test_without_a_replay_the_reason_stands_where_the_figures_would(document: Tree) -> None:
    """A log without propensities: no figure is invented, everything else is there."""
    bare = without_replay(document, WHY_NOT)
    judgement = judged(bare)
    text = shown(bare, judgement)
    assert judgement["verdict"] == "refuse"
    assert "The evidence cannot carry a verdict on “Enough can be replayed”, “Earns more clicks”" in text
    assert text.count(WHY_NOT) >= 4
    assert "No logged decision could be replayed" in text
    assert "Which items are shown" not in text
    assert whole(bare["comparison"]["auc"]["difference"], True) in text


HOSTILE = '<script>alert("x")</script><img src=x onerror=y>\' {{ 7 * 7 }} %s'


def test_names_of_a_log_are_text_wherever_they_stand(document: Tree) -> None:
    """An item category, a surface or a policy is whatever a logger writes."""
    bad = troubled(document)
    for side in ("champion", "challenger"):
        bad[side]["candidate_id"] = HOSTILE
        bad[side]["lineage"] = {HOSTILE: HOSTILE, "settings": {HOSTILE: [side, HOSTILE]}, "mode": HOSTILE + side}
        bad[side]["policy"]["surfaces"] = {HOSTILE: {"temperature": 0.1}}
    for part in (*bad["slices"]["slices"], *bad["value_slices"]):
        part["attribute"] = part["value"] = HOSTILE
    bad["diagnostics"]["balance"][0]["group"] = HOSTILE
    bad["value_slices"][1]["difference"]["refused"] = HOSTILE
    bad["value"]["difference"] = {"refused": HOSTILE, "n": 3, "effective_n": 1.0}
    bad["risk"]["looks"] = [
        {**{"number": 1, "at": "2026-01-07T06:10:00+00:00", "day": HOSTILE, "mode": "warm", "risk": 0.01},
         "candidate_id": HOSTILE, "verdict": None}
    ]  # fmt: skip
    bad["slices"]["slices"][1]["difference"]["refused"] = HOSTILE
    bad["slices"]["reversals"][0] |= {"attribute": HOSTILE, "slices": {HOSTILE: 0.1}}
    bad["data"] |= {"policies": {HOSTILE: 3}, "left_out": {HOSTILE: 3, "requests": 4}}
    bad["diagnostics"] |= {"skew": 0.5, "differing_columns": {HOSTILE: 0.5}}
    bad["warnings"][0] |= dict.fromkeys(("table", "expectation", "needs", "notes"), HOSTILE)
    bad["limitations"] = [HOSTILE]
    judgement = judged(bad)
    judgement["rules"][0] |= {"name": HOSTILE, "reason": HOSTILE}
    read = Page(shown_page(bad, judgement))
    plain = Page(shown_page(troubled(document), judged(troubled(document))))
    assert sorted({tag for tag, _ in read.tags}) == sorted({tag for tag, _ in plain.tags})
    assert not any(name.startswith("on") for _, found in read.tags for name in found)
    assert read.text.count(HOSTILE) > 10
    assert read.text.count(f"; on {HOSTILE} temperature 0.1") == 2


@pytest.mark.parametrize("kind", ["promote", "refuse", "unjudged"])
def test_the_page_needs_nothing_beside_itself(document: Tree, kind: str) -> None:
    """It is read in MLflow's sandbox, in a mail, in ten years: no script, no address, no picture from elsewhere."""
    shape = without_replay(document, WHY_NOT) if kind == "refuse" else document
    markup = shown_page(shape, None if kind == "unjudged" else judged(shape))
    read = Page(markup)
    assert not {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not {name for _, found in read.tags for name in found} & {"src", "href", "xlink:href", "action", "srcset"}
    assert not re.search(r"https?:|url\(|@import|@font-face|//\w", markup)
    assert not re.search(r"\b(nan|NaN|inf|undefined)\b", read.text)


def test_every_chart_says_what_it_shows(document: Tree) -> None:
    """For whoever does not see it; axes are silent, their figures are in the table."""
    read = Page(shown_page(document, judged(document)))
    drawn = [found for tag, found in read.tags if tag == "svg" and "x" not in found]
    assert len(drawn) > 20
    for found in drawn:
        assert found.get("aria-hidden") == "true" or (found.get("role") == "img" and found["aria-label"])
    labels = " ".join(found["aria-label"] or "" for found in drawn if "aria-label" in found)
    difference = document["comparison"]["auc"]["difference"]
    assert f"AUC, challenger minus champion: {said(difference['value'])}" in labels


def test_a_document_is_what_its_schema_says_or_no_page_is_made(document: Tree) -> None:
    assert Document.model_validate(document).model_dump(mode="json") == document
    for change in (
        {"schema_version": 2},
        {"surprise": 1},
        {"truth": {**document["truth"], "champion": math.nan}},
        {"value": {"champion": document["value"]["champion"]}},
        {"parity": {**document["value"]["champion"], "low": 1e9}},
    ):
        with pytest.raises(ValidationError):
            shown_page({**document, **change})
    with pytest.raises(ValidationError):
        shown_page({name: part for name, part in document.items() if name != "comparison"})
    with pytest.raises(ValidationError):
        shown_page(document, judged(document) | {"verdict": "maybe"})


def test_the_histogram_counts_every_decision_once(document: Tree) -> None:
    for weights in document["diagnostics"]["weights"].values():
        assert sum(weights["histogram"]["counts"]) == weights["n"]
        heaviest = max(low for low, n in zip(*(weights["histogram"][k] for k in ("edges", "counts")), strict=True) if n)
        assert heaviest <= weights["largest_weight"] < 2 * max(heaviest, 0.125)


# -- where marks stand ---------------------------------------------------------------------------------------------
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(FINITE, min_size=2, max_size=8), st.booleans())
def test_a_scale_keeps_order_and_stays_inside(figures: list[float], flipped: bool) -> None:
    scale = Scale.around(figures, flipped=flipped)
    places = [scale.at(figure) for figure in sorted(figures, reverse=flipped)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)


@given(st.lists(FINITE, max_size=8), st.booleans())
def test_zero_lines_of_all_rows_lie_on_one_another(figures: list[float], flipped: bool) -> None:
    assert Scale.about_zero(figures, flipped=flipped).at(0.0) == 50


@given(st.floats(-1000, 1000), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_are_round_and_inside(shift: float, width: float, about: int) -> None:
    low = shift * width
    found = charts.ticks(low, low + width, about)
    step = found[1] - found[0] if len(found) > 1 else None
    assert len(found) <= 2 * about + 1
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in found)
    if step:
        assert round(step / 10 ** math.floor(math.log10(step * 1.0001)), 3) in (1, 2, 5)


@pytest.mark.parametrize(
    ("flipped", "bad_below", "start", "width"),
    [(False, True, 0, 25), (True, True, 75, 25), (False, False, 25, 75), (True, False, 0, 75)],
)
def test_what_is_not_allowed_is_shaded_on_its_side(flipped: bool, bad_below: bool, start: int, width: int) -> None:
    """Log-loss is flipped and bad above: shaded on the left like all others, or a worse model would look allowed."""
    row = charts.interval_row(
        [Mark("challenger", 0.0, -1.0, 1.0)], Scale(-2.0, 2.0, flipped), "", bound=-1.0, bad_below=bad_below
    )
    shaded = re.search(r'class="forbidden" x="([\d.]+)%" y="0" width="([\d.]+)%"', row)
    assert shaded is not None
    assert [float(figure) for figure in shaded.groups()] == [start, width]


def test_a_mark_stands_where_its_figures_are() -> None:
    row = charts.interval_row([Mark("champion", 1.0, 0.0, 3.0, truth=2.0)], Scale(0.0, 4.0), 'a "quoted" <name>')
    assert 'class="whisker" x1="0.0%" x2="75.0%"' in row
    assert 'class="dot" cx="25.0%"' in row
    assert '<svg x="50.0%"' in row
    assert 'aria-label="a &#34;quoted&#34; &lt;name&gt;"' in row


# -- words ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "figure", "bound", "needs", "found"),
    [
        ("value", 0.00612, 0.0, "> 0", "+0.0061"),
        ("auc", -0.0123, -0.005, "≥ −0.005", "−0.0123"),
        ("log_loss", 0.0031, 0.002, "≤ +0.002", "+0.0031"),
        ("log_loss.rises", -0.0031, 0.0, "< 0", "−0.0031"),
        ("ndcg_at_10.rises", 0.0031, 0.0, "> 0", "+0.0031"),
        ("test_rows", 2400.0, 1000.0, "≥ 1,000", "2,400"),
        ("label_maturity", 0.987, 0.9, "≥ 90%", "98.7%"),
        ("skew", 0.0, 0.001, "≤ 0.1%", "0%"),
        ("calibration", 0.123456, 0.3, "≤ 30%", "12.3%"),
        ("calibration_ratio", 3.0214, 1.2, "≤ 1.2", "3.02"),
        ("calibration_ratio", 0.9, 1 / 1.2, "≥ 0.833", "0.9"),
        ("latency_ms", 3.214, 50.0, "≤ 50 ms", "3.21 ms"),
        ("slices", -0.06, -0.05, "≥ −0.05", "−0.0600"),
        ("simpson", None, None, "", ""),
        ("held_out", 24.5, 0.0, "> 0 h", "24.5 h"),
        ("held_out", 3e-10, 0.0, "> 0 h", "< 0.01 h"),
        ("conversions", -0.0012, -0.0005, "≥ −0.0005", "−0.0012"),
    ],
)
def test_a_rule_says_on_which_side_of_its_bound_it_clears(
    name: str, figure: float | None, bound: float | None, needs: str, found: str
) -> None:
    """The sign beside a bound must be the gate's own, or a reader takes a fail for a pass."""
    rule = JudgedRule(name=name, figure=figure, bound=bound, outcome="pass", reason="")
    assert (wording.rule_needs(rule), wording.rule_figure(rule)) == (needs, found)


def test_every_rule_of_a_verdict_has_words(document: Tree) -> None:
    """A rule that is new in the gate needs its name on the page."""
    for rule in judged(document)["rules"]:
        words = wording.rule_name(rule["name"])
        assert words != rule["name"].replace("_", " "), rule["name"]


def test_each_rule_passes_exactly_where_its_words_say(document: Tree) -> None:
    """Figures and bounds as printed, against the outcome the gate gave."""
    compare: dict[str, Any] = {"≥": lambda a, b: a >= b, "≤": lambda a, b: a <= b, ">": lambda a, b: a > b}
    for shape in (document, troubled(document)):
        for tree in judged(shape)["rules"]:
            rule = JudgedRule.model_validate(tree)
            if rule.figure is not None and rule.bound is not None and rule.name != "slices":
                sign = wording.rule_needs(rule)[0]
                assert compare[sign](rule.figure, rule.bound) == (rule.outcome == "pass"), rule.name


def test_a_gain_that_may_be_none_is_not_called_one(document: Tree) -> None:
    unsure = copy.deepcopy(document)
    unsure["value"]["difference"] |= {"value": 0.004, "low": -0.011, "high": 0.019}
    judgement = judged(unsure)
    said_of_it = wording.headline(Document.model_validate(unsure), Judgement.model_validate(judgement))
    assert judgement["verdict"] == "hold"
    assert "16 of 17 rules that can be asked are cleared; not cleared: “Earns more clicks”." in said_of_it
    assert (
        "+0.0040 clicks per request against the champion (98.3% interval −0.0110 to +0.0190), so it may be none."
        in said_of_it
    )
