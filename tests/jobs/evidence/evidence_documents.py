"""Documents to show: one that a backtest on the small lake wrote, and what may become of it."""

import copy
import json
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.backtest import job
from jobs.evidence import computed, core, pack, page
from jobs.evidence.document import Document, Risk
from jobs.evidence.judgement import Judgement, Matured
from jobs.evidence.scored import Pair
from jobs.lake.run import Run
from jobs.lake.store import Lake
from models.evaluation.estimate import Refusal
from models.evaluation.gate import Evidence, judge
from models.evaluation.value import refused as unknown
from tests.jobs.small_candidates import linear, popularity, publish_candidates
from tests.jobs.small_lake import DAY, World, a_run, publish_all, settings

Tree = dict[str, Any]
ALONE = Risk(look=1, risk=0.05, shared=0.05, days=14, looks=[])
"""Of a look that spends it all."""
VOID = {"meta", "br", "hr", "img", "input", "link"}


def written(tmp: Path, session: Path) -> Tree:
    """What the stage wrote of a challenger that knows what users like, in a world whose truth is known."""
    config = settings(
        tmp, session, source__name="simulated", world__first_day="2026-01-01", gate__bootstrap_replicates="50"
    )
    publish_all(config, World(), n=200)
    publish_candidates(config, {"popularity": popularity(), "logistic": linear(1.0)}, "logistic")
    job.run(a_run("backtest", config))
    [row] = Lake(config.lake.root).read("evidence", [DAY]).to_pylist()
    return dict(json.loads(row["document"]))


def written_once(session: Path) -> Tree:
    """`written`, a copy of one's own of the one a session makes: a backtest takes seconds."""
    return dict(json.loads(_text(session)))


@cache
def _text(session: Path) -> str:
    return json.dumps(written(session / "evidence", session))


def of_rows(run: Run, rows: pa.Table, pair: Pair, risk: float = ALONE.risk) -> Tree:
    """The document on these test rows of the run's own dataset, nobody's yet, at a look that spends `risk`."""
    for name, value in run.partition.items():
        rows = rows if name in rows.column_names else rows.append_column(name, pa.array([value] * len(rows)))
    look = ALONE.model_copy(update={"risk": risk})
    origin = computed.Origin(
        run_id="run", trained=run.day.isoformat(), deployed=False, warnings=[], dataset=None, risk=look
    )
    return computed.document(run, rows, pair, origin).model_dump(mode="json")


def seen_by_the_gate(document: Tree) -> Evidence:
    """What the gate may see of it."""
    return core.gate_evidence(Document.model_validate(document))


def judged(document: Tree, latency_ms: float = 3.21) -> Tree:
    """The real gate's verdict."""
    found = Document.model_validate(document)
    verdict = judge(seen_by_the_gate(document).with_latency(latency_ms), found.gate)
    return Judgement.of(verdict, pack.sha256(found)).model_dump(mode="json")


def shown(document: Tree, judgement: Tree | None = None, matured: Tree | None = None) -> str:
    """The page, from what lies on disk; raises pydantic's ValidationError where that is of no schema."""
    return page.html(
        Document.model_validate(document),
        None if judgement is None else Judgement.model_validate(judgement),
        None if matured is None else Matured.model_validate(matured),
    )


def without_replay(document: Tree, reason: str) -> Tree:
    """As of a log that has no propensities."""
    changed = copy.deepcopy(document)
    refusal = {"refused": reason, "n": 0, "effective_n": 0.0}
    changed["value"] = dict.fromkeys(("champion", "challenger", "difference"), refusal)
    changed["logging"] = {"value": refusal, "difference": refusal}
    changed["concentration_rise"] = refusal
    changed |= {
        "estimators": {},
        "power": None,
        "value_slices": [],
        "popularity": {},
        "diagnostics": {
            **{"weights": {}, "difference": None, "balance": [], "groups": 0},
            **{"skew": None, "differing_columns": {}},
        },
    }
    left_out = {"requests": 600, "no_propensity": 600, "click_unknown": 0}
    changed["replay"] = core.replay_kind(0, left_out, unknown(Refusal(reason), Refusal(reason))).model_dump(mode="json")
    changed["pages"] |= {"pages": 0, "places": 0, "left_out": {"decisions": 0}, "depths": {}}
    changed["conversions"] |= {"decisions": 0, "closed": 0}
    changed["conversions"] |= dict.fromkeys(("champion", "challenger", "difference", "logging"), refusal)
    changed["data"] |= {"decisions": 0, "candidates_per_decision": None}
    del changed["truth"]
    return changed


def complete(document: Tree) -> Tree:
    """As of so many requests that whole pages can be told, once every purchase that may still come has come."""
    changed = copy.deepcopy(document)
    sides = {side: changed["value"][side] for side in ("champion", "challenger", "difference")}
    changed["conversions"] |= {**sides, "logging": changed["logging"]["value"]}
    changed["conversions"]["closed"] = changed["conversions"]["decisions"]
    changed["pages"]["depths"] = dict.fromkeys(("1", "2", "3"), changed["pages"]["depths"]["1"])
    return changed


def troubled(document: Tree) -> Tree:
    """Slices that lost, some that could not be compared, a reversal, weights that are off, other columns, a warning."""
    changed = copy.deepcopy(document)
    first, second = changed["slices"]["slices"][:2]
    first["difference"] |= {"value": -0.11, "low": -0.16, "high": -0.06}
    second["difference"] = {
        "refused": "auc needs clicked and unclicked rows; found 0 of 900",
        "n": 900,
        "effective_n": 0.0,
    }
    lost = {"value": -0.11, "stderr": 0.02, "low": -0.16, "high": -0.06, "n": 90, "effective_n": 90.0}
    changed["value_slices"] = [
        {"attribute": "surface", "value": "search", "n": 90, "share": 0.225, "difference": lost},
        {"attribute": "item_age", "value": "new", "n": 60, "share": 0.15, "difference": second["difference"]},
    ]
    changed["diagnostics"]["balance"][0]["off"] = True
    changed["slices"]["reversals"] = [
        {"attribute": "surface", "overall": 0.0112, "slices": {"home": -0.0041, "search": -0.0093}}
    ]
    changed["diagnostics"] |= {"skew": 0.5, "differing_columns": {"user_clicks": 0.25, "item_price": 0.3}}
    day = {"day": "2026-01-05", "rows": 12, "found": None}
    rule = {
        "table": "clicks",
        "expectation": "after_impression",
        "needs": "a click after its impression",
        "notes": "Clocks.",
    }
    changed["warnings"] = [{**rule, "days": [day]}]
    return changed


class Page(HTMLParser):
    """A page read strictly: every tag closed in order; text, tags and attributes kept."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()} closes something else"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        """What a person reads, one space between words."""
        return " ".join(" ".join(self.pieces).split())
