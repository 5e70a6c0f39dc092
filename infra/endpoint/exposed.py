"""Which experiments a request is part of, said in its answer; and which variant one of them wants to answer it."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from infra.endpoint.request import RankRequest
from jobs.serving.answer import Answer
from models.experiments.assignment import Exposure, exposures, unit_of
from models.experiments.settings import ExperimentSettings


class Exposed:
    """The settings' experiments; an arm is a function of ids, so that it is the same in every process and offline."""

    def __init__(self, experiments: Sequence[ExperimentSettings]) -> None:
        self._experiments = [(one.design, frozenset(one.shared_ids)) for one in experiments if not one.interleave]
        self._mixing = [one for one in experiments if one.interleave]
        self._variants = {
            (one.name, name): arm.variant for one in experiments for name, arm in one.arms.items() if arm.variant
        }

    def of(self, asked: RankRequest) -> list[Exposure]:
        """Every experiment of a request, and the arm."""
        return [
            seen
            for design, shared in self._experiments
            for seen in exposures([design], unit_of(asked.user_id, asked.request_id, shared), asked.surface, asked.at())
        ]

    def variant(self, seen: Sequence[Exposure], there: Collection[str]) -> str | None:
        """The variant that an arm names, where the endpoint has it; None leaves the choice to the weights."""
        wanted = (self._variants.get((one.experiment, one.arm)) for one in seen)
        return next((variant for variant in wanted if variant in there), None)

    def mixing(self, asked: RankRequest, there: Collection[str]) -> ExperimentSettings | None:
        """The experiment that mixes this request's page, where the endpoint has the variants of all its arms."""
        for one in self._mixing:
            unit = unit_of(asked.user_id, asked.request_id, frozenset(one.shared_ids))
            wanted = {arm.variant for arm in one.arms.values()}
            if wanted <= set(there) and exposures([one.design], unit, asked.surface, asked.at()):
                return one
        return None


def saying(answer: Answer, seen: list[Exposure]) -> Answer:
    """The answer with what its request was exposed to; itself where that is nothing."""
    return replace(answer, exposures=seen) if seen else answer
