"""What `GET /metrics` shows, in Prometheus' text format 0.0.4 and since the process started.

A process of a variant counts what it answers; the platform counts what was returned, whoever made it, and shows beside
it what its processes say of themselves, each by endpoint, variant, bundle and process.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client import generate_latest as text_of
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds; finest around the ranker's time and below the promise."""
Family = Metric | Histogram
OF_BUNDLE = ("endpoint", "variant", "bundle")
"""Labels of what answers: two configs of an update may name their variants alike."""
Counts = Mapping[tuple[str, str], int]
disable_created_metrics()  # type: ignore[no-untyped-call]


def stages() -> Histogram:
    """Seconds of each step of a ranked answer: features, retrieve, columns, rank, slate."""
    text = "Seconds of a step of a ranked answer."
    return Histogram("tidegate_stage_seconds", text, ["stage"], registry=None, buckets=BUCKETS)


def call_seconds() -> Histogram:
    """Seconds of a container's calls: of the whole, from arrival, and of a step of those that do not rank."""
    text = "Seconds of a call: whole, from its arrival, and of its steps."
    return Histogram("tidegate_call_seconds", text, ["call", "stage"], registry=None, buckets=BUCKETS)


def called(outcomes: Counts) -> Metric:
    """A container's calls by their name and outcome: answered, why popularity did, or the status of a refusal."""
    return _counted("tidegate_calls", "Calls by outcome.", ("call", "outcome"), outcomes)


def whole() -> Histogram:
    """Seconds from a request's arrival until its answer was made."""
    text = "Seconds from the arrival of a request until its answer was made."
    return Histogram("tidegate_answer_seconds", text, OF_BUNDLE, registry=None, buckets=BUCKETS)


def answers(outcomes: Counts) -> Metric:
    """Answers by bundle and outcome (`popularity.OUTCOMES`)."""
    text = "Answers; all but the ranked ones were made by popularity."
    return _counted("tidegate_answers", text, ("bundle", "outcome"), outcomes)


def retrieved(finders: Counts) -> Metric:
    """Answers to requests that brought no candidates, by bundle and who found them."""
    return _counted(
        "tidegate_retrieved", "Answers whose candidates were retrieved, by what found them.", ("bundle", "by"), finders
    )


def refused(refusals: Counts) -> Metric:
    """Requests that got no answer, by endpoint and error code."""
    return _counted("tidegate_refused", "Requests that were refused, or met a bug.", ("endpoint", "code"), refusals)


def restarted(restarts: Counts) -> Metric:
    """Processes begun anew, by bundle and why: the one before ended, or hung."""
    return _counted("tidegate_restarts", "Processes of a variant begun anew.", ("bundle", "why"), restarts)


def captured(written: int, lost: int) -> Metric:
    """Lines of the data capture."""
    found = CounterMetricFamily("tidegate_captured", "Answers meant for the data capture.", labels=["outcome"])
    found.add_metric(["lost"], lost)
    found.add_metric(["written"], written)
    return found


def feature_age(seconds: float) -> Metric:
    """Of the newest publication; NaN before the first."""
    text = "Seconds since the newest features counted as known."
    return GaugeMetricFamily("tidegate_features_age_seconds", text, value=seconds)


def processes(up: Mapping[tuple[str, str, str], int]) -> Metric:
    """Processes that may be asked, by `OF_BUNDLE`."""
    found = GaugeMetricFamily("tidegate_processes", "Processes that may be asked.", labels=OF_BUNDLE)
    for labels, number in sorted(up.items()):
        found.add_metric(labels, number)
    return found


def bundles(named: Iterable[tuple[str, str]]) -> Metric:
    """What is loaded: (candidate id, sha256)."""
    found = InfoMetricFamily("tidegate_bundle", "What is loaded.", labels=["bundle"])
    for candidate_id, sha256 in sorted(named):
        found.add_metric([candidate_id], {"sha256": sha256})
    return found


def text(families: Iterable[Family]) -> bytes:
    """The page."""
    registry = CollectorRegistry(auto_describe=False)
    for one in families:
        registry.register(one if isinstance(one, Histogram) else _Once(one))
    return text_of(registry)


def joined(pages: Iterable[tuple[Mapping[str, str], str]]) -> list[Metric]:
    """Many processes' pages as one: every sample with its process's labels, every family once."""
    found: dict[str, Metric] = {}
    for labels, page in pages:
        for family in text_string_to_metric_families(page):
            one = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                one.add_sample(sample.name, {**sample.labels, **labels}, sample.value)
    return list(found.values())


class _Once:
    """A collector of one family."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


def _counted(name: str, text: str, labels: tuple[str, str], counts: Counts) -> Metric:
    found = CounterMetricFamily(name, text, labels=labels)
    for values, number in sorted(counts.items()):
        found.add_metric(values, number)
    return found
