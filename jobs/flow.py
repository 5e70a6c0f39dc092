"""Every stage of Tidegate, left to right: what it reads and what it writes. The architecture on one page.

A stage may touch only what is named here: `jobs.lake.run.Run` refuses any other table, column or day, so this page
cannot drift from the code. `raw` is the raw lake a team's loggers write; `endpoint` and `registry` (MLflow) are
services, not tables.

    ingest -> validate -> attribute --+-> assemble -> train -> backtest -> promote -> deploy
                       \\-> featurize -+                                               |
                                       monitor, experiment <-- served impressions <---+
                                       reevaluate <-- labels that closed, evidence
                                       export -> a team's own database
    maintain: files, logs and old versions of all tables; it changes no row

A line of a stage's inputs is a table, its days and its columns. Days: `day` is the run's own, `past` those up to it,
`newest` the one newest up to it, `around` also later ones where a rerun finds them published (late events), `ever` all
of a ledger. Columns: `*` is all, `-name` all but that one; `.` is none, only what the commits say of the table.
What a stage writes it may read too, up to the run's day; of a ledger all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

Days = Literal["day", "past", "newest", "around", "ever"]
VALIDATED = ("impressions", "clicks", "purchases", "feedback", "requests", "items", "users")
SNAPSHOTS = ("items", "users")
"""Of these, the state of a whole day; readers take the newest day at or before theirs."""
LEDGERS = ("looks", "promotions", "deployments")
FEATURES = ("user_features", "item_features", "encodings")


@dataclass(frozen=True)
class Read:
    """What a stage takes of a table."""

    days: Days
    columns: tuple[str, ...]

    def takes(self, column: str) -> bool:
        """Whether the column is one of them."""
        return column in self.columns or ("*" in self.columns and f"-{column}" not in self.columns)


@dataclass(frozen=True)
class Stage:
    """One verb: `module.run(run)` does it; `per` says whether `--mode full|warm` means something to it."""

    name: str
    doc: str
    reads: Mapping[str, Read]
    writes: tuple[str, ...]
    per: Literal["day", "mode"] = "day"

    def read_of(self, table: str) -> Read | None:
        """What it may take of a table; None for nothing. A ledger that it keeps, a table of no days, it sees whole."""
        own = Read("ever" if table in LEDGERS else "past", ("*",)) if table in self.writes else None
        return self.reads.get(table, own)

    @property
    def module(self) -> str:
        """Where its `run(run: Run) -> Counts` lives."""
        return f"jobs.{self.name}.job"


def _stage(name: str, doc: str, writes: str, reads: str, per: Literal["day", "mode"] = "day") -> Stage:
    """Raises ValueError for a line that is no table, days and columns."""
    found: dict[str, Read] = {}
    for line in filter(None, map(str.strip, reads.splitlines())):
        tables, days, *columns = line.split()
        if days not in get_args(Days) or not columns:
            raise ValueError(f"a line of {name} needs a table, its days and its columns; found {line!r}")
        for table in tables.split(","):
            found[table] = Read(cast(Days, days), () if columns == ["."] else tuple(columns))
    return Stage(name, doc, found, tuple(writes.split()), per)


# fmt: off
STAGES: dict[str, Stage] = {s.name: s for s in (
    _stage("ingest", "a source's own files become the raw lake",
           writes="raw", reads=""),
    _stage("validate", "raw events are checked against the suites; bad rows are set aside",
           writes="quarantine profiles impressions clicks purchases feedback requests items users", reads="""
        raw                 day    *"""),
    _stage("attribute", "conversions are credited to the impressions that earned them",
           writes="labels", reads="""
        impressions         around impression_id request_id event_time ingested_at user_id item_id surface
        clicks,purchases    around *
        feedback            around *"""),
    _stage("featurize", "what was known of users, items and contexts at the end of the day",
           writes="user_features item_features encodings", reads="""
        impressions         past   impression_id event_time ingested_at user_id item_id surface query source_item_id
        clicks              past   impression_id event_time ingested_at user_id item_id
        purchases           past   event_time ingested_at user_id item_id
        feedback            past   outcome event_time ingested_at user_id item_id value
        items               past   item_id created_at category price attributes removed feature_vector
        users               newest user_id attributes"""),
    _stage("assemble", "labels are joined with the features known before them, and split by time", per="mode",
           writes="examples retrieval_negatives", reads="""
        impressions         past   *
        labels              past   * -request_id -user_id -item_id -conversion_credit
        user_features       past   * -clicks
        item_features       past   * -clicks
        encodings           past   *
        items               newest item_id category price title attributes
        users               newest user_id attributes"""),
    _stage("train", "rankers are fitted; the best on the validation day becomes the challenger", per="mode",
           writes="candidates delay_curves", reads="""
        examples            day    * -impression_id -propensity -policy -query -source_item_id
        items               newest item_id category title removed feature_vector
        candidates          ever   *
        deployments         ever   *"""),
    _stage("backtest", "challenger and champion are compared on the same held-out rows, and their value estimated",
           per="mode", writes="looks evidence", reads="""
        examples            past   *
        requests            past   request_id candidates slate_size
        user_features       past   *
        item_features       past   *
        encodings           past   *
        items               newest item_id category price title attributes
        candidates          ever   *
        delay_curves        past   *
        promotions          ever   look verdict candidate_id bundle_sha256 evidence_sha256
        deployments         ever   *
        impressions         past   .
        clicks              past   .
        purchases           past   .
        feedback            past   .
        users               past   ."""),
    _stage("promote", "the gate's verdict on the evidence against what serves, with reasons", per="mode",
           writes="promotions", reads="""
        evidence            day    *
        candidates          past   *
        deployments         ever   *"""),
    _stage("deploy", "an approved bundle is released to the endpoint; ledger and alias follow", per="mode",
           writes="deployments", reads="""
        evidence            day    *
        promotions          ever   *
        user_features       ever   *
        item_features       ever   *
        encodings           ever   *
        items               ever   item_id attributes removed
        users               ever   user_id attributes"""),
    _stage("monitor", "what was served is compared with what was judged: skew, drift, online quality; incidents",
           writes="serving_reports", reads="""
        impressions         past   * -ingested_at
        labels              past   * -request_id -item_id -known_at -conversion_credit -conversion_value -outcomes
        requests            past   request_id candidates
        user_features       past   *
        item_features       past   *
        encodings           past   *
        items               newest item_id attributes removed
        users               newest user_id attributes
        candidates          ever   bundle_sha256 run_id
        evidence            ever   *
        deployments         ever   *"""),
    _stage("experiment", "the endpoint is compared with the logging policy, and arms of A/B tests with each other",
           writes="readouts", reads="""
        impressions         past   impression_id request_id event_time user_id item_id surface device policy
        requests            past   request_id
        quarantine          past   row_key payload
        labels              past   * -request_id -event_time -known_at -user_id -item_id -conversion_credit -outcomes
        delay_curves        past   group age_days share
        evidence            past   candidate_id document
        promotions          ever   candidate_id verdict decided_at
        deployments         ever   *"""),
    _stage("reevaluate", "evidence is computed again once every label is closed; which verdicts still hold",
           writes="reevaluations", reads="""
        evidence            past   *
        labels              past   * -request_id -user_id -item_id -conversion_credit -conversion_value
        examples            past   *
        requests            past   request_id candidates slate_size
        user_features       past   *
        item_features       past   *
        encodings           past   *
        items               newest item_id category price title attributes
        candidates          ever   *
        delay_curves        past   *
        promotions          ever   *
        deployments         ever   *"""),
    _stage("export", "results are copied to the team's own database, each partition once",
           writes="", reads="""
        labels              ever   *
        evidence            ever   *
        looks               ever   *
        promotions          ever   *
        deployments         ever   *
        serving_reports     ever   *
        readouts            ever   *
        reevaluations       ever   *"""),
    _stage("maintain", "small files are merged, and versions that nothing needs are dropped; no row changes",
           writes="", reads=""),
)}
EXPORTED = tuple(STAGES["export"].reads)
