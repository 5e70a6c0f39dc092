"""The page of sizes, `docs/sizing.md`: what a load takes, from what one core was measured to do; `make docs` writes
it.

The figures are those of `docs/measured.md` and of the decisions named; whoever measures anew puts them here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.config import ROOT

PAGE = ROOT / "docs" / "sizing.md"
USERS, ITEMS, IMPRESSIONS, QPS = 100_000_000, 10_000_000, 1_000_000_000, 100_000
USD_AN_HOUR, CORES, GIB = 0.269, 4, 16
"""Of an ml.m5.xlarge, what the endpoint runs on."""
BUSY, HOURS = 0.7, 4
"""Of a core's time what batch work really gets; and in how many hours a day's work is to be done."""
ASKED = 120
"""Requests a second of one core within 25 ms, of a million items, that come at random moments (`bench serving`)."""
ITEM_BYTES, PROCESS_MIB = 2_200, 400
"""Of a container with one process, by item and besides (`bench serving` with 250,000 and with 1,000,000 items)."""
USERS_A_SECOND = 16_500
"""Of one core, that go online to Redis (ADR 62)."""
BUCKET_ROWS = 500_000
"""Of a table, what one worker holds at a time."""


@dataclass(frozen=True)
class Stage:
    """Processor seconds that a million impressions take on Spark; `days`: of impressions that a day's run goes
    over."""

    name: str
    seconds: float
    days: int
    why: str
    source: str


STAGES = (
    Stage("validate", 12, 1, "the day", "`bench scale`, 4M"),
    Stage("attribute", 4, 8, "the day, and those whose window of 7 days is open", "`bench scale`, 4M"),
    Stage("featurize", 6, 1, "the day", "`bench scale`, 4M"),
    Stage("assemble", 12, 5, "3 train days of a warm start, one to validate, one to test", "`bench scale`, 4M"),
)


def written() -> str:
    """The page."""
    return "\n".join([*_opening(), *_batch(), *_serving(), *_online(), *_next()])


def _opening() -> Iterator[str]:
    yield f"""# Sizes

What {USERS / 1e6:.0f} million users, {ITEMS / 1e6:.0f} million items, {IMPRESSIONS / 1e9:.0f} billion impressions a
day and {QPS:,} requests a second would take, reckoned from what one core was measured to do
([measured.md](measured.md)). **Nothing of this size was ever run**: each figure is a measured one times a number.
`make docs` writes the page from `tests/sizing_page.py`: put your own figures and prices there.
"""


def _batch() -> Iterator[str]:
    yield f"""## A day's batch work

On a cluster ([cluster.md](cluster.md)). Processor time grows with rows (the greatest exponent measured is 1.05);
cores are those that end the work in {HOURS} hours where {BUSY:.0%} of their time is work, at USD
{USD_AN_HOUR / CORES:.3f} a core and hour (an m5.xlarge of {CORES} cores at {USD_AN_HOUR}). Measured on one
idle machine, the start of Java included, where what workers send each other lies in files: between machines it goes
through Spark's shuffles, which was not measured since (the release before sent it so on one machine, half as fast and
busy, and took two to five times as much).

| stage | processor s a million impressions | days of them | core hours a day | cores | USD a day | measured |
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
A weekly dataset of 28 train days is {full:,.0f} core hours more. A bucket is about {BUCKET_ROWS:,} rows of a table,
so a day has {IMPRESSIONS // BUCKET_ROWS:,} buckets, and as many part files of labels. `train` learns from as many
requests as its memory holds (`training.most_rows`), drawn evenly and whole, so what it costs does not grow with the
log.
"""


def _serving() -> Iterator[str]:
    million = USD_AN_HOUR / CORES / 3600 / ASKED * 1e6
    held = (PROCESS_MIB * 2**20 + ITEMS * ITEM_BYTES) / 2**30
    yield f"""## Requests

{ASKED} a second and core at random moments with p99 of 25 ms, of a million items (retrieve 1,000, rank 1,000 by MMoE,
answer 50): USD {million:.2f} a million requests. Processes do not know of each other, so an instance more is so many
requests more.

| asked a second | cores | m5.xlarge | USD a day |
| --- | --- | --- | --- |"""
    for asked in (1_000, QPS):
        cores = _up(asked, ASKED)
        yield f"| {asked:,} | {cores:,} | {_up(cores, CORES):,} | {_up(cores, CORES) * USD_AN_HOUR * 24:,.0f} |"
    yield f"""
Of {ITEMS / 1e6:.0f} million items a process would hold {held:.0f} GiB ({ITEM_BYTES:,} bytes an item, {PROCESS_MIB}
MiB besides): more than the {GIB} GiB of an m5.xlarge. Take instances with so much for each core that ranks, or serve
fewer items: those that `items` no longer lists are not held.
"""


def _online() -> Iterator[str]:
    hours = USERS / USERS_A_SECOND / 3600
    yield f"""## What is known of users, online

{USERS / 1e6:.0f} million users put anew into Redis, {USERS_A_SECOND:,} a second and core, are {hours:.1f} core
hours: {_cores(hours)} core in {HOURS} hours, on the workers that made them. What Redis itself takes was not measured.
"""


def _next() -> Iterator[str]:
    yield """## What breaks next

In the order in which a team that grows would meet it:

1. **Items in memory.** `endpoint.precomputed_mib` (1 GiB) holds the items' half of the network for some 1.7 million;
   above, each request makes its own, and a core answers fewer. Raise it with the memory.
2. **The dataset.** `assemble` goes over every row of its days, whatever training keeps: it is most of the bill.
   Fewer train days, or `dataset.selection`, before more machines.
3. **One process.** `train` reads what it learns from in one process (torchrun's others are sent theirs), retrieval
   takes all clicks; `backtest` and `reevaluate` hold the rows that are judged. `monitor` holds a part of a day, but
   goes over it alone: 40 processor seconds a million impressions, two in five of them answered, captured
   answers given again included ([limits.md](limits.md#what-is-thin-today)). A loggers' own lake needs no `ingest`.
4. **Online, a whole publication of items** is in every endpoint process and in the one that puts it online.
5. **Files.** Two thousand buckets are two thousand part files a day and table; logs and checkpoints were measured at
   400 days of four files ([measured.md](measured.md#years)), not at these.
6. **An index of ten million.** Lists looked into are as many as for one million, each longer; recall and time of
   that were not measured, only of a million.
"""


def _up(whole: int, part: int) -> int:
    return -(-whole // part)


def _cores(hours: float) -> int:
    return _up(int(hours * 100), int(HOURS * BUSY * 100))


def _usd(hours: float) -> str:
    return f"{hours / BUSY * USD_AN_HOUR / CORES:,.2f}"


if __name__ == "__main__":
    PAGE.write_text(written())
