"""What a challenger must show, and from where on a figure of a day is wrong."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from models.settings.base import Settings
from models.settings.outcomes import OUTCOME_METRICS


class Margins(Settings):
    """Non-inferiority margins: the interval of the difference must lie within them; none: the metric is not checked."""

    auc: float | None = Field(0.005, ge=0, description="area under the ROC curve")
    auc_pr: float | None = Field(None, ge=0, description="area under the precision-recall curve")
    log_loss: float | None = Field(0.002, ge=0, description="nats")
    normalised_entropy: float | None = Field(None, ge=0, description="log-loss divided by that of the base rate")
    ndcg_at_10: float | None = Field(0.005, ge=0, description="of a request's list")
    mrr_at_10: float | None = Field(None, ge=0, description="of a request's list")
    map_at_10: float | None = Field(None, ge=0, description="of a request's list")
    recall_at_1: float | None = Field(None, ge=0, description="of a request's list")
    precision_at_3: float | None = Field(None, ge=0, description="of a request's list")
    hit_rate_at_3: float | None = Field(None, ge=0, description="of a request's list")


METRICS_ONLY = "metrics-only"


class WatchSettings(Settings):
    """From where on a day's figure is wrong, and how often there may be an alarm: see `models.monitoring`.

    A figure alarms if it is significantly beyond its bound. Set bounds to what somebody should get up for; the noise of
    the day's sample, and of days, is accounted for separately.
    """

    false_alarms_a_month: float = Field(
        0.5, gt=0, le=10, description="expected number over all figures together, on days of no change"
    )
    quiet_days: int = Field(2, ge=1, description="days in a row without an alarm after which an incident closes")
    baseline_days: int = Field(
        28, ge=7, description="previous days that a figure is compared with, without days with an open incident"
    )
    max_drift: float = Field(0.1, gt=0, description="population stability index of a column, corrected for bias")
    max_null_rise: float = Field(0.02, gt=0, lt=1, description="rise in the share of nulls over the reference's")
    max_unseen: float = Field(0.02, gt=0, lt=1, description="share of values that the reference never saw")
    max_rate_change: float = Field(0.25, gt=0, description="of a click, conversion or predicted rate, relative")
    max_traffic_change: float = Field(0.5, gt=0, description="of requests, and of the busiest users' share, relative")
    max_share_change: float = Field(0.1, gt=0, lt=1, description="of the new items' share, absolute")
    max_repeated: float = Field(0.02, gt=0, lt=1, description="share of events that were logged before")
    max_weight_change: float = Field(0.1, gt=0, description="of the mean weight that audits propensities, absolute")
    max_auc_shortfall: float = Field(0.01, gt=0, lt=0.5, description="AUC below what the probabilities predict")
    max_calibration: float = Field(1.25, gt=1, description="predicted clicks over observed clicks, or the inverse")
    max_model_age_days: int = Field(14, ge=1, description="age of the newest row that the live model learned from")
    max_delay_change: float = Field(0.25, gt=0, description="of the usual delay of a conversion, relative")


class GateSettings(Settings):
    """What a challenger must show before a person is even asked."""

    profile: Literal["counterfactual", "metrics-only"] = Field(
        "counterfactual",
        description="what shows a gain: clicks of the replayed logs or, if those hold no propensities, the metrics "
        "of `must_rise` on what was shown",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval")
    risk_days: int = Field(
        14,
        ge=1,
        description="all looks within so many days share one risk of a false promotion, 1 - confidence (half of it "
        "on the side of a gain); the ledger of looks counts them, whatever their day, mode or challenger",
    )
    expected_looks: int = Field(
        2,
        ge=1,
        description="looks expected in those days: so many get equal parts of the risk, each further one less; a "
        "wrong number costs power, never risk",
    )
    days: int = Field(
        1,
        ge=1,
        description="days a challenger may stand, from the day of its training: each is one more look, on all of "
        "them pooled; a promotion or a new champion ends it, and only then is another of its mode judged",
    )
    min_effective_n: float = Field(200.0, ge=1, description="below it the counterfactual estimate is refused")
    max_weight_share: float = Field(0.05, gt=0, le=1, description="largest single weight / sum of weights")
    max_tail_shape: float = Field(0.5, gt=0, description="Pareto shape of the largest weights, see tail_shape")
    max_mean_weight_z: float = Field(
        4.0, gt=0, description="standard errors by which the mean weight may differ from 1"
    )
    max_unsupported_mass: float = Field(
        0.01, ge=0, le=1, description="share of the target's choices that the logging policy could not make"
    )
    max_logging_drift: float = Field(
        0.25, ge=0, description="stability index of propensities, one day against the rest"
    )
    max_incomplete_share: float | None = Field(
        0.01,
        ge=0,
        le=1,
        description="share of requests without exactly one first placement, or of pages with a gap; above it a value "
        "is refused",
    )
    min_propensity: float | None = Field(
        None,
        gt=0,
        le=1,
        description="smallest probability with which the logging policy took anything, if it is known (epsilon / "
        "candidates): it bounds the weights and replaces max_tail_shape",
    )
    balance_risk: float = Field(
        0.001, gt=0, lt=1, description="probability that the balance of weights refuses correct logs"
    )
    min_clicks_each_side: float = Field(
        5.0,
        ge=0,
        description="equally weighted clicks on items that one side is likelier to show than the other, for either "
        "side",
    )
    min_decisions_that_matter: float = Field(3.0, ge=1, description="decisions (or users) on which the error rests")
    min_lift: float = Field(
        0.001,
        description="smallest gain worth having, as a share of what the champion earns: the estimate must reach it "
        "and be significantly above 0; below 0, a loss that is accepted",
    )
    max_loss_to_logging: float | None = Field(
        0.02,
        ge=0,
        description="non-inferiority margin against what is shown now, as a share of what that earns",
    )
    min_replayed_share: float | None = Field(0.8, ge=0, le=1, description="share of requests that can be replayed")
    estimators: tuple[Literal["snips", "dr", "sndr", "pages"], ...] = Field(
        (), description="further estimators whose bound must clear min_lift: snips, dr, sndr, pages"
    )
    max_conversion_drop: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the champion's conversions per request: a larger significant loss holds, once labels "
        "are closed",
    )
    max_conversion_drop_so_far: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="the same before they are closed, with the delay curve and an interval that includes its error",
    )
    must_not_fall: Margins = Margins()
    must_rise: tuple[str, ...] = Field(
        (),
        description="metrics that must be significantly better; for a further outcome `<outcome>.<metric>`: like.auc",
    )
    outcomes_must_not_fall: dict[str, float] = Field(
        {}, description="non-inferiority margins for metrics of further outcomes: like.auc"
    )
    min_test_rows: int = Field(1_000, ge=1, description="impressions of the test day; fewer are refused")
    min_known_share: float | None = Field(0.9, ge=0, le=1, description="share of test impressions whose click is known")
    max_calibration_ratio: float | None = Field(
        1.2,
        gt=1,
        description="factor by which it may predict too many or too few clicks; a good model needs 500 clicks to "
        "show it",
    )
    max_calibration_error: float | None = Field(
        0.3, ge=0, description="debiased calibration error, as a share of the click rate"
    )
    slice_metric: str = Field(
        "auc", description="auc, auc_pr, log_loss, normalised_entropy, or a list metric: ndcg_at_10"
    )
    max_slice_drop: float | None = Field(
        0.05, ge=0, description="significant loss in slice_metric that no slice may exceed"
    )
    min_slice_rows: int = Field(500, ge=2, description="test rows that a slice needs to be judged")
    max_concentration_rise: float | None = Field(
        0.5, ge=0, le=1, description="relative decrease in the number of items that are recommended most"
    )
    max_skew: float | None = Field(
        0.001, ge=0, le=1, description="share of replayed decisions with other features than in training"
    )
    max_latency_ms: float | None = Field(50.0, gt=0, description="p99 of scoring one request")
    max_warm_loss: float | None = Field(0.002, ge=0, description="nats a warm start may lose to a full training")
    bootstrap_replicates: int = Field(200, ge=50, description="resamples of users, for intervals without a closed form")

    @field_validator("must_rise")
    @classmethod
    def _is_a_metric(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(name for name in set(names) - set(Margins.model_fields) if not _of_an_outcome(name))
        if unknown:
            raise ValueError(f"must be of {', '.join(Margins.model_fields)}; not {', '.join(unknown)}")
        return names

    @field_validator("outcomes_must_not_fall")
    @classmethod
    def _are_margins_of_outcomes(cls, margins: dict[str, float]) -> dict[str, float]:
        wrong = [name for name, margin in margins.items() if not _of_an_outcome(name) or margin < 0]
        if wrong:
            known = ", ".join(metric for metrics in OUTCOME_METRICS.values() for metric in metrics)
            raise ValueError(
                f"needs <outcome>.<metric>, a metric of {known}, and margins from 0; not {', '.join(wrong)}"
            )
        return margins

    @field_validator("slice_metric")
    @classmethod
    def _is_compared_in_slices(cls, name: str) -> str:
        metrics = (metric.partition("_at_") for metric in Margins.model_fields)
        choices = [f"{figure}_at_<k>" if k else figure for figure, _, k in metrics]
        figure, _, k = name.partition("_at_")
        if (f"{figure}_at_<k>" if k.isdecimal() and int(k) else name) not in choices:
            raise ValueError(f"must be one of {', '.join(choices)} with a k from 1; not {name}")
        return name

    @model_validator(mode="after")
    def _something_shows_the_gain(self) -> Self:
        if self.profile == METRICS_ONLY and not self.must_rise:
            raise ValueError(
                f'{METRICS_ONLY} needs gate.must_rise, metrics that show the gain, say ["ndcg_at_10"]; found none'
            )
        return self

    @property
    def value_confidence(self) -> float:
        """The confidence of the value's difference, by which a gain is shown, of a look that is the only one."""
        return self.confidence

    @property
    def metrics_confidence(self) -> float:
        """That of the metrics' differences: the look's own where they must show the gain."""
        return self.value_confidence if self.profile == METRICS_ONLY else self.confidence

    def at(self, risk: float) -> "GateSettings":
        """The same for a look that may spend `risk`, in (0, 1); see `models.evaluation.risk`."""
        return LookSettings.model_validate({**dict(self), "risk": risk})


def _of_an_outcome(name: str) -> bool:
    """Whether it may be a metric of a further outcome; which there are, `jobs.config` knows."""
    outcome, _, metric = name.partition(".")
    return bool(outcome) and any(metric in metrics for metrics in OUTCOME_METRICS.values())


class LookSettings(GateSettings):
    """The gate's settings at one look among several, whose share of the risk the ledger has told."""

    risk: float = Field(gt=0, lt=1)

    @property
    def value_confidence(self) -> float:
        """That of the interval which errs in `risk` of cases."""
        return 1 - self.risk
