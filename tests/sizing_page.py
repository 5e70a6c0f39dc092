"""The page of sizes, `docs/sizing.md`: what a load needs, computed from measurements of one core (`make docs`).

The figures are those of `docs/measured.md` and of the decisions named; enter new measurements here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.config import ROOT

PAGE = ROOT / "docs" / "sizing.md"
USERS, ITEMS, IMPRESSIONS, QPS = 100_000_000, 10_000_000, 1_000_000_000, 100_000
USD_AN_HOUR, CORES, GIB = 0.269, 4, 16
"""Of an ml.m5.xlarge, on which the endpoint runs."""
BUSY, HOURS = 0.7, 4
"""The share of a core's time that batch work really gets, and the hours in which a day's work must be done."""
ASKED = 120
"""Requests a second per core within 25 ms, with a million items and random arrivals (`bench serving`)."""
ITEM_BYTES, PROCESS_MIB = 2_200, 400
"""Memory of a container with one process, per item and fixed (`bench serving` with 250,000 and 1,000,000 items)."""
USERS_A_SECOND = 16_500
"""Users that one core puts into Redis (ADR 62)."""
BUCKET_ROWS = 500_000
"""Rows of a table that one worker holds at a time."""


@dataclass(frozen=True)
class Stage:
    """CPU seconds per million impressions on Spark; `days`: days of impressions that a daily run reads."""

    name: str
    seconds: float
    days: int
    why: str
    source: str


STAGES = (
    Stage("validate", 9.6, 1, "the day", "`bench scale`"),
    Stage("attribute", 2.7, 8, "the day, and those whose window of 7 days is open", "`bench scale`"),
    Stage("featurize", 4.1, 1, "the day", "`bench scale`"),
    Stage("assemble", 10, 5, "3 train days of a warm start, one to validate, one to test", "`bench scale`"),
)


def written() -> str:
    """The page."""
    return "\n".join([*_opening(), *_batch(), *_serving(), *_online(), *_next()])


def _opening() -> Iterator[str]:
    yield f"""# Sizes

What {USERS / 1e6:.0f} million users, {ITEMS / 1e6:.0f} million items, {IMPRESSIONS / 1e9:.0f} billion impressions a
day and {QPS:,} requests a second would need, computed from measurements of one core
([measured.md](measured.md)). **Nothing of this size was ever run**: each figure is a measured one times a number.
`make docs` writes this page from `tests/sizing_page.py`: enter your own figures and prices there.
"""


def _batch() -> Iterator[str]:
    yield f"""## A day's batch work

On a cluster ([cluster.md](cluster.md)). CPU time grows about linearly with rows (the largest measured exponent is
1.05). The cores finish the work in {HOURS} hours if {BUSY:.0%} of their time is work, at USD
{USD_AN_HOUR / CORES:.3f} per core hour (an m5.xlarge of {CORES} cores at {USD_AN_HOUR}). Measured on a standalone
cluster of two workers on one idle machine, so rows went through Spark's shuffles but over no network: what each million
impressions cost between 250,000 and 4 million, without the starts of Java and Python.

| stage | CPU s per million impressions | days of them | core hours a day | cores | USD a day | measured |
| --- | --- | --- | --- | --- | --- | --- |"""
    whole = 0.0
    for stage in STAGES:
        hours = stage.seconds * IMPRESSIONS * stage.days / 1e6 / 3600
        whole += hours
        yield (
            f"| `{stage.name}` | {stage.seconds:g} | {stage.days}: {stage.why} | {hours:,.1f} | {_cores(hours)} "
            f"| {_usd(hours)} | {stage.source} |"
        )
    full = STAGES[-1].seconds * IMPRESSIONS * 30 / 1e6 / 3600
    yield f"| all | | | {whole:,.1f} | {_cores(whole)} | {_usd(whole)} | |"
    yield f"""
A weekly dataset of 28 train days takes {full:,.0f} core hours more. A bucket is about {BUCKET_ROWS:,} rows of a table,
so a day has {IMPRESSIONS // BUCKET_ROWS:,} buckets, and as many part files of labels. `train` learns from as many
requests as fit into its memory (`training.most_rows`), a uniform sample of whole requests, so its cost does not grow
with the log.
"""


def _serving() -> Iterator[str]:
    million = USD_AN_HOUR / CORES / 3600 / ASKED * 1e6
    held = (PROCESS_MIB * 2**20 + ITEMS * ITEM_BYTES) / 2**30
    yield f"""## Requests

{ASKED} a second per core, arriving at random moments, with a p99 of 25 ms and a million items (retrieve 1,000, rank
1,000 with MMoE, answer 50): USD {million:.2f} per million requests. Processes are independent, so capacity grows in
proportion to instances.

| requests a second | cores | m5.xlarge | USD a day |
| --- | --- | --- | --- |"""
    for asked in (1_000, QPS):
        cores = _up(asked, ASKED)
        yield f"| {asked:,} | {cores:,} | {_up(cores, CORES):,} | {_up(cores, CORES) * USD_AN_HOUR * 24:,.0f} |"
    yield f"""
With {ITEMS / 1e6:.0f} million items a process would need {held:.0f} GiB ({ITEM_BYTES:,} bytes per item plus
{PROCESS_MIB} MiB): more than the {GIB} GiB of an m5.xlarge. Use instances with that much memory per ranking core, or
serve fewer items: those that `items` no longer lists are not loaded.
"""


def _online() -> Iterator[str]:
    hours = USERS / USERS_A_SECOND / 3600
    yield f"""## Users' features, online

Writing {USERS / 1e6:.0f} million users to Redis, {USERS_A_SECOND:,} a second per core, takes {hours:.1f} core
hours: {_cores(hours)} core for {HOURS} hours, on the workers that computed them. Redis itself was not measured.
"""


def _next() -> Iterator[str]:
    yield """## What breaks next

In the order in which a growing team would meet it:

1. **Items in memory.** `endpoint.precomputed_mib` (1 GiB) holds the items' half of the network for some 1.7 million
   items; above that, each request computes its own, and a core answers fewer. Raise it with the memory.
2. **The dataset.** `assemble` reads every row of its days, whatever training keeps: it is most of the cost.
   Reduce train days, or use `dataset.selection`, before adding machines.
3. **One process.** `train` reads its rows in one process (and sends torchrun's others theirs); retrieval
   takes all clicks; `backtest` and `reevaluate` hold the rows that are judged; the driver of an A/B test holds 490
   bytes per user. On Spark `monitor` needs 37 CPU seconds per million impressions, two in five of them answered by
   the endpoint, including the recomputed answers; 5 of them are its driver's, so a billion impressions keep one core
   busy for 1.3 hours ([075](decisions/075-files-on-workers.md)). A lake that loggers write needs no `ingest`.
4. **Items online.** A whole publication of items is in every endpoint process and in the one that puts it online.
5. **Files.** Two thousand buckets are two thousand part files per day and table; logs and checkpoints were measured at
   400 days of four files ([measured.md](measured.md#years)), not at this size.
6. **An index of ten million.** A search probes as many lists as for one million items, but longer ones; recall and
   time were measured for one million only.
"""


def _up(whole: int, part: int) -> int:
    return -(-whole // part)


def _cores(hours: float) -> int:
    return _up(int(hours * 100), int(HOURS * BUSY * 100))


def _usd(hours: float) -> str:
    return f"{hours / BUSY * USD_AN_HOUR / CORES:,.2f}"


if __name__ == "__main__":
    PAGE.write_text(written())
