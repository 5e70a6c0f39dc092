"""Which estimate is asked for: an estimator by its name, and what it reads of each row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jobs.errors import UsageError
from models.evaluation import slates, weighting
from models.evaluation.slates import Pages
from models.evaluation.weighting import Estimator, Log, Terms

DECISIONS: Mapping[str, Estimator] = {
    "ips": weighting.ips,
    "snips": weighting.snips,
    "dm": weighting.dm,
    "dr": weighting.dr,
    "sndr": weighting.sndr,
}
WITH_OPTION: Mapping[str, tuple[str, Callable[[float], Estimator]]] = {
    "clipped_ips": ("clip", weighting.clipped_ips),
    "switch_dr": ("threshold", weighting.switch_dr),
    "dros": ("shrinkage", weighting.dros),
}
PAGES: Mapping[str, Callable[[Pages], Terms]] = {
    "iips": slates.iips_terms,
    "rips": slates.rips_terms,
    "cascade_dr": slates.cascade_dr_terms,
    "pseudo_inverse": slates.pseudo_inverse_terms,
}
DOWN_THE_PAGE = ("rips", "cascade_dr")
"""Their probabilities are given what stands above, so a page's weight is the product of its placements'."""
MODELLED = ("dr", "sndr", "switch_dr", "dros", "cascade_dr")
NAMES = (*DECISIONS, *WITH_OPTION, *PAGES)


@dataclass(frozen=True)
class Question:
    """One estimator, its option where it takes one, whether rows come in clusters, and resamples for a bootstrap.

    Raises `UsageError` for an unknown name, an option that is missing, impossible or of another estimator, and a
    bootstrap without clusters: rows have no name by which batches that never meet could draw alike.
    """

    estimator: str
    option: float | None = None
    clustered: bool = False
    replicates: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.estimator not in NAMES:
            raise UsageError(f"an estimator must be one of {', '.join(NAMES)}; found {self.estimator!r}")
        takes = self.takes
        if (self.option is None) != (takes is None):
            needed = f"{self.estimator} needs {takes or 'no option'}"
            raise UsageError(f"{needed}; found {'none' if self.option is None else f'{self.option:g}'}")
        if self.replicates and not self.clustered:
            raise UsageError("a bootstrap draws clusters, so it needs the column cluster; found none")
        if self.replicates < 0 or self.replicates == 1:
            raise UsageError(f"a bootstrap needs at least 2 replicates; found {self.replicates}")
        if self.option is not None:
            try:
                WITH_OPTION[self.estimator][1](self.option)
            except ValueError as error:
                raise UsageError(str(error)) from error

    @property
    def takes(self) -> str | None:
        """The name of the estimator's option."""
        return WITH_OPTION[self.estimator][0] if self.estimator in WITH_OPTION else None

    @property
    def of_pages(self) -> bool:
        """Whether a row is a placement of a page."""
        return self.estimator in PAGES

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads."""
        model = ("predicted_logged", "predicted_target") if self.estimator in MODELLED else ()
        direct = ("predicted_target",) if self.estimator == "dm" else ()
        page = ("slate", "position") if self.of_pages else ()
        return ("reward", "logged", "target", *model, *direct, *page, *(("cluster",) if self.clustered else ()))

    def terms(self, rows: Log | Pages) -> Terms:
        """What each decision, or each page, contributes."""
        if isinstance(rows, Pages):
            return PAGES[self.estimator](rows)
        if self.option is not None:
            return WITH_OPTION[self.estimator][1](self.option)(rows)
        return DECISIONS[self.estimator](rows)
