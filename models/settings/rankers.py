"""Each ranker by its kind."""

from typing import Any, Literal

from pydantic import Field, field_validator

from models.settings.base import Settings


class EncodingSettings(Settings):
    """Settings of every ranker that encodes categories; their own settings add to them."""

    max_categories: int = Field(64, ge=1, description="values kept per categorical feature; the rest share one")


class PopularitySettings(Settings):
    """How slowly an item's own rates replace the prior."""

    prior_impressions: float = Field(50.0, gt=0, description="pseudo-impressions at the mean rate")
    prior_clicks: float = Field(50.0, gt=0, description="pseudo-clicks at the mean conversions per click")


class LinearSettings(EncodingSettings):
    """What a daily warm start of weights keeps."""

    warm_memory: float = Field(
        4.0, ge=0, description="weight of the parent, as a multiple of the new rows; 0: only the new rows count"
    )


class LogisticSettings(LinearSettings):
    """Regularisation and iterations of the logistic regression."""

    l2: float = Field(1e-4, ge=0, description="penalty on all weights, per row")
    steps: int = Field(60, ge=1, description="maximum number of L-BFGS iterations")


class CrossesSettings(LinearSettings):
    """Regularisation and iterations of the logistic regression with hashed crosses."""

    l2: float = Field(20.0, ge=0, description="pseudo-rows that hold each weight where it was")
    steps: int = Field(40, ge=1, description="maximum number of L-BFGS iterations")


class FactorizationSettings(Settings):
    """The factorisation machine: its size, how it learns, and which values it remembers."""

    dimensions: int = Field(8, ge=1, description="of a value's vector")
    batch_size: int = Field(1024, ge=1, description="rows per step")
    epochs: int = Field(1, ge=0, description="passes; further ones memorise ids")
    warm_epochs: int = Field(1, ge=0, description="passes of a daily warm start over its rows")
    rate: float = Field(
        0.05, gt=0, description="learning rate of row-wise AdaGrad, for vectors and the values' own weights"
    )
    linear_rate: float = Field(0.05, gt=0, description="learning rate of AdaGrad, for the weights of numeric columns")
    l2: float = Field(10.0, ge=0, description="pseudo-rows that pull a vector to 0, in every batch that has it")
    admit_after: int = Field(5, ge=1, description="rows of one training in which a value must occur to get a vector")
    expire_after_days: int = Field(30, ge=1, description="days without a row after which a value's vector is dropped")
    max_ids: int = Field(3_000_000, ge=1, description="maximum vectors per column, the most frequent values")


class XGBoostSettings(EncodingSettings):
    """How many trees, how deep, and the contribution of each."""

    rounds: int = Field(60, ge=1, description="maximum number of rounds; the held-out rows decide when to stop")
    warm_rounds: int = Field(10, ge=1, description="maximum number of rounds that a daily warm start adds")
    stop_after: int = Field(15, ge=0, description="rounds without a gain on the held-out rows; 0: never stops early")
    depth: int = Field(5, ge=1, le=12, description="maximum depth of a tree")
    eta: float = Field(0.15, gt=0, le=1, description="learning rate: the contribution of each tree")
    warm_eta: float = Field(
        0.03, gt=0, le=1, description="eta of a daily warm start, whose one day would otherwise outweigh a month"
    )
    min_child_weight: float | None = Field(
        None, ge=0, description="minimum sum of p (1 - p) in a leaf; none: the square root of the sum over all rows"
    )
    conversion_l2: float = Field(
        100.0,
        ge=0,
        description="shrinks the leaves of P(conversion | click), which has a tenth of the rows to learn from",
    )
    spark_tasks: int = Field(
        2,
        ge=1,
        description="Spark tasks that grow its trees together, if Spark does, see `spark.from_rows`; all run at once",
    )


class LambdaMARTSettings(XGBoostSettings):
    """The same, for three sets of trees: those that order lists, those of the click probability, those of conversions.

    A leaf of the first needs its share of what all pairs tell: `min_child_weight` is for the others.
    """

    rounds: int = Field(120, ge=1, description="maximum number of rounds; an order takes more trees than a rate")


class NetworkSettings(Settings):
    """A network over embeddings of ids: its size, how it learns, and which ids it remembers.

    100 million parameters are mostly `max_ids` 3,000,000 at `embedding_dimensions` 32.
    """

    expert_width: int = Field(32, ge=1, description="of an expert's hidden layer")
    tower_width: int = Field(32, ge=1, description="of a task's hidden layer")
    embedding_dimensions: int = Field(16, ge=1, description="of the vector of an id, a category or a last item")
    batch_size: int = Field(1024, ge=1, description="rows per step")
    epochs: int = Field(1, ge=0, description="passes; the second memorises ids; stops early on held-out rows")
    warm_epochs: int = Field(1, ge=0, description="passes of a daily warm start over its rows")
    learning_rate: float = Field(7e-3, gt=0, description="of Adam, for the network; falls to 0 over a fit")
    warm_learning_rate: float = Field(
        1e-3, gt=0, description="the same in a warm start, which continues instead of beginning"
    )
    embedding_learning_rate: float = Field(0.15, gt=0, description="of row-wise AdaGrad, for the vectors")
    embedding_caution: float = Field(
        0.0,
        ge=0,
        description="initial value of AdaGrad's sums, in squared gradients of one row of the logs: above 0, vectors "
        "with few rows move little, so that further passes memorise fewer ids",
    )
    id_dropout: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="share of values treated as never seen, from which the vector for unseen values is learned",
    )
    admit_after: int = Field(5, ge=1, description="rows of one training in which an id must occur to get a vector")
    expire_after_days: int = Field(30, ge=1, description="days without a row after which an id's vector is dropped")
    max_ids: int = Field(
        3_000_000, ge=1, description="maximum vectors per id or category column, the most frequent values"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where it learns; auto: on a CUDA device if there is one"
    )


class MMoESettings(NetworkSettings):
    """The multi-task network's experts."""

    experts: int = Field(4, ge=1, description="shared by all tasks")
    prune_below: float = Field(
        0.0, ge=0, lt=1, description="drops experts to which no task gives this share of its gate, on average; 0: none"
    )


class SingleTaskSettings(NetworkSettings):
    """One network per task: `expert_width` is the width of its hidden layer."""


BY_SURFACE = "_by_surface"
"""Follows the kind of a ranker that has one of its own for each surface (`models.rankers.by_surface`)."""


class RankerSettings(Settings):
    """The settings of each ranker by its kind; one seed for all.

    A new ranker adds its class above and its line here: not in its own file, since that loads numpy, and DAGs, which
    read all settings, are parsed every few seconds.
    """

    seed: int = Field(7, description="seed of every random draw")
    kinds: tuple[str, ...] = Field(
        ("popularity", "logistic", "xgboost", "mmoe"),
        min_length=1,
        description="rankers that a full training fits, of those below; popularity always",
    )
    surfaces: Literal["consolidated", "bespoke", "auto"] = Field(
        "consolidated",
        description="one ranker for all surfaces; or one for each, trained on that surface's rows alone; auto: both, "
        "and the better one on the validation rows goes to the gate",
    )
    popularity: PopularitySettings = PopularitySettings()
    logistic: LogisticSettings = LogisticSettings()
    crosses: CrossesSettings = CrossesSettings()
    factorization: FactorizationSettings = FactorizationSettings()
    xgboost: XGBoostSettings = XGBoostSettings()
    lambdamart: LambdaMARTSettings = LambdaMARTSettings()
    single_task: SingleTaskSettings = SingleTaskSettings()
    mmoe: MMoESettings = MMoESettings()

    @field_validator("kinds")
    @classmethod
    def _are_rankers(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        known = [name for name in cls.model_fields if name not in ("seed", "kinds", "surfaces")]
        if unknown := sorted(set(kinds) - set(known)):
            raise ValueError(f"must be of {', '.join(known)}; not {', '.join(unknown)}")
        return kinds

    @property
    def trained(self) -> tuple[str, ...]:
        """The kinds that a full training fits, by what `surfaces` says."""
        bespoke = tuple(kind + BY_SURFACE for kind in self.kinds if kind != "popularity")
        return {"consolidated": self.kinds, "bespoke": bespoke or self.kinds, "auto": (*self.kinds, *bespoke)}[
            self.surfaces
        ]

    def of_kind(self, kind: str) -> Any:
        """The settings of a kind's own class; one by surface has those of its kind."""
        return getattr(self, kind.removesuffix(BY_SURFACE))

    def of(self, *kinds: str) -> dict[str, Any]:
        """What made rankers of these kinds, flat, as JSON has it: the seed, and `<kind>.<name>` of each setting."""
        found = self.model_dump(mode="json")
        kinds = tuple(dict.fromkeys(kind.removesuffix(BY_SURFACE) for kind in kinds))
        return {"seed": self.seed} | {f"{kind}.{name}": value for kind in kinds for name, value in found[kind].items()}
