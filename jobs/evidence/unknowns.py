"""What the evidence cannot say yet, or never will, and when: read before anybody asks what it does say."""

from dataclasses import dataclass

from jobs.evidence import wording
from jobs.evidence.document import Document
from jobs.evidence.figures import Estimated, Power
from jobs.evidence.judgement import Judgement, Matured


@dataclass(frozen=True)
class Unknown:
    """Something a person would want to know, why it is not known, and when it will be."""

    what: str
    why: str


def unknowns(document: Document, judgement: Judgement | None, matured: Matured | None) -> list[Unknown]:
    """Labels to come, requests that were not replayed, rules without an answer, and how small a gain can be seen."""
    found = [*_labels(document, matured), *_requests(document)]
    replayed = document.conversions
    told = {"conversions_so_far"}  # by the labels to come
    told |= {"conversions"} if replayed.closed < replayed.decisions or not replayed.decisions else set()
    for rule in () if judgement is None else judgement.rules:
        if rule.outcome == "unknown" and rule.name not in told:
            found.append(Unknown(wording.rule_name(rule.name), wording.sentence(rule.reason)))
    if document.power is not None:
        found.append(Unknown("Small gains", power(document.power)))
    return found


def power(found: Power) -> str:
    """What lift logs like these show, and how many days of them would show 1 %, to two digits."""
    days = "one day of logs" if found.days == 1 else f"{found.days} days of logs"
    needed = wording.rounded(float(f"{found.days_for_one_percent:.2g}"))
    return (
        f"Logs like these ({days}) show a lift of {wording.percent(found.detectable_lift)} over the champion in 4 of 5"
        f" cases; a lift of 1% needs about {needed} such {'day' if needed == '1' else 'days'}."
    )


def _labels(document: Document, matured: Matured | None) -> list[Unknown]:
    found, data, closing = [], document.data, document.conversions.closes_on
    since = "" if matured is None else f" They were by the end of {matured.day}: see “When every label was in”."
    if missing := data.test_rows - data.test_rows_known:
        found.append(
            Unknown(
                "Some clicks",
                f"{missing:,} of {data.test_rows:,} test impressions may still be clicked; all clicks are known by the"
                f" end of {closing}.{since}",
            )
        )
    of = document.conversions
    if of.closed < of.decisions:
        found.append(
            Unknown(
                "Conversions",
                f"{of.closed:,} of {of.decisions:,} replayed decisions have a closed label; the last closes at the end"
                f" of {closing}, and the evidence is computed again then.{since}{_by_the_curve(document)}",
            )
        )
    for name, outcome in document.outcomes.items():
        if outcome.closed < outcome.rows:
            found.append(
                Unknown(
                    f"Outcome {name}",
                    f"{outcome.closed:,} of {outcome.rows:,} test impressions are closed; all of them by the end of"
                    f" {closing}, and the evidence is computed again then.{since}",
                )
            )
    return found


def _by_the_curve(document: Document) -> str:
    """What they will come to, as far as it can be told."""
    early = document.conversions_so_far
    if early is None or not isinstance(early.difference, Estimated):
        return ""
    told = f"{wording.signed(early.difference.value)} ({wording.between(early.difference, sign=True)})"
    return f" By the delay curve challenger minus champion will be {told} conversions per request."


def _requests(document: Document) -> list[Unknown]:
    """Those that nobody can replay: what is said of the others need not hold for them."""
    replay, requests = document.replay, document.replay.requests
    known = requests["session_replay"] + requests["slate_re_ranking"]
    if not requests["slate_re_ranking"]:
        return []
    reasons = wording.not_replayed(document.data.left_out)
    if replay.whole is None:
        none = not requests["session_replay"]
        left = f"None of {known:,} requests was" if none else f"{requests['slate_re_ranking']:,} of {known:,} were not"
        return [
            Unknown(
                "What it would earn" if none else "The other requests",
                f"{left} replayed ({reasons}). These logs will never say what the challenger would earn there: that"
                " needs the candidates of a request and the probability with which the shown one was chosen.",
            )
        ]
    low, high = (wording.signed(end) for end in replay.whole)
    return [
        Unknown(
            "The other requests",
            f"{requests['slate_re_ranking']:,} of {known:,} requests were not replayed ({reasons}); the figures above"
            f" are of the {wording.share(replay.share)} that were. On all of them the difference to the champion is"
            f" between {low} and {high} clicks per request: the others, taken to earn as much now, could lose it all or"
            " be clicked each time.",
        )
    ]
