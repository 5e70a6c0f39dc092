"""What the maths can be told: one frozen class per part, each default written here and nowhere else.

`jobs.config` composes these into the one configuration tree; unknown keys are refused.
"""

from datetime import date, timedelta
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Settings(BaseModel):
    """A frozen group of settings; an unknown key is an error, not a typo that silently does nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SPAN = r"^[1-9]\d*[mhd]$"
"""Of time, in minutes, hours or days: `90m`, `6h`, `7d`."""


def span_of(text: str | None, days: int) -> timedelta:
    """What a `SPAN` says; so many days where there is none."""
    if text is None:
        return timedelta(days=days)
    return int(text[:-1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[text[-1]]


def whole_days(span: timedelta) -> int:
    """The fewest days that hold it."""
    return -(-span // timedelta(days=1))


def refuse_two(group: BaseModel, *names: str) -> None:
    """Raises `ValueError` for a span that is given twice, as `<name>` and as `<name>_days`."""
    for name in names:
        if {name, f"{name}_days"} <= group.model_fields_set and getattr(group, name) is not None:
            raise ValueError(f"{name} and {name}_days say the same: give one of them")


class WorldSettings(Settings):
    """The simulated world: sizes, taste, noise, delay. The same settings and seed give the same bytes."""

    seed: int = Field(20260101, description="of every draw")
    first_day: date = Field(date(2026, 1, 1), description="the first day of its logs")
    days: int = Field(36, ge=3, description="days the world exists")
    users: int = Field(20_000, ge=50, description="who may ask")
    items: int = Field(2_000, ge=50, description="items that exist on the first day")
    new_items_per_day: int = Field(20, ge=0, description="items made each day after the first")
    categories: int = Field(24, ge=2, description="of items; tastes are for categories and items")
    latent_dimensions: int = Field(8, ge=2, description="of a user's taste and an item's nature")
    requests_per_day: int = Field(8_000, ge=20, description="pages asked for in a day")
    candidates: int = Field(20, ge=4, description="items retrieval offers the logging policy per request")
    slate_size: int = Field(4, ge=1, description="items shown on a page")
    logging_temperature: float = Field(
        0.6, gt=0, description="of the logging policy: near 0 it shows what it likes best, far above all alike"
    )
    base_click_logit: float = Field(-2.4, description="log-odds of a click of no special taste at the first place")
    purchase_rate: float = Field(0.10, gt=0, lt=1, description="mean P(purchase | click)")
    drift_per_day: float = Field(0.01, ge=0, description="how far tastes walk in a day, in latent units")
    late_share: float = Field(0.01, ge=0, lt=1, description="events that arrive one or two days late")
    duplicate_share: float = Field(0.002, ge=0, lt=1, description="events logged twice with the same id")
    live_share: float = Field(
        0.1, ge=0, le=1, description="requests answered by the live endpoint once one is in service"
    )


PolicyKind = Literal["greedy", "epsilon_greedy", "plackett_luce", "thompson"]
EXPLORED_BY = {"epsilon": "epsilon_greedy", "temperature": "plackett_luce", "evidence": "thompson"}
"""Which kind of policy a setting is of."""


class OfItems(Settings):
    """Items told apart by a word of theirs."""

    of: str = Field(
        "category", description="`category`, or an attribute of the item: `item.brand` is attributes.item.brand"
    )

    @field_validator("of")
    @classmethod
    def _is_of_items(cls, name: str) -> str:
        if name != "category" and not (name.startswith("item.") and name != "item."):
            raise ValueError(f"must be category or item.<attribute>; not {name}")
        return name

    @property
    def column(self) -> str:
        """The ranker column that has the word."""
        return "item_category" if self.of == "category" else f"attributes.{self.of}"


class BoostSettings(OfItems):
    """Items of one word are worth more, or less, than what is predicted of them."""

    word: str = Field(description="which it must have")
    times: float = Field(gt=0, description="multiplies the odds of the score, which stays a probability; 1: nothing")


class BlockSettings(OfItems):
    """Items of these words are not shown."""

    words: tuple[str, ...] = Field(min_length=1, description="one of which it has")


class CapSettings(OfItems):
    """Of items with the same word, so many a page: a page may end early for it."""

    most: int = Field(ge=1, description="with the same word on one page")


class RepeatSettings(OfItems):
    """What an item is worth beside those of the same word above it on the page."""

    times: float = Field(gt=0, description="multiplies the odds of the score, once for each; below 1: diversity")


class HeuristicSettings(Settings):
    """What somebody wants of a surface's pages whatever is predicted; see `models.policies.heuristics`."""

    boosts: tuple[BoostSettings, ...] = Field((), description="items worth more or less: of, word, times the odds")
    blocks: tuple[BlockSettings, ...] = Field((), description="items that are not shown: of, words")
    caps: tuple[CapSettings, ...] = Field((), description="so many a page of one word: of, most")
    repeats: tuple[RepeatSettings, ...] = Field(
        (), description="diversity, what each item of the same word above is worth: of, times the odds"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The ranker columns whose words they look at, each once."""
        rules: tuple[OfItems, ...] = (*self.boosts, *self.blocks, *self.caps, *self.repeats)
        return tuple(dict.fromkeys(rule.column for rule in rules))


class SurfaceSettings(Settings):
    """How a surface's policy differs; what is not given is as for every other surface."""

    kind: PolicyKind | None = None
    temperature: float | None = Field(None, gt=0)
    epsilon: float | None = Field(None, ge=0, le=1)
    evidence: float | None = Field(None, gt=0)
    heuristics: HeuristicSettings | None = Field(None, description="in place of those of every surface, all of them")


class PolicySettings(Settings):
    """How scores become a slate and the probabilities that get logged."""

    kind: PolicyKind = "plackett_luce"
    temperature: float = Field(0.5, gt=0, description="Plackett-Luce: probability goes as score ** (1 / T)")
    epsilon: float = Field(0.1, ge=0, le=1, description="epsilon-greedy: share of uniform choices")
    evidence: float = Field(200.0, gt=0, description="Thompson: impressions a score is believed as if seen in")
    surfaces: dict[str, SurfaceSettings] = Field(
        {}, description="surfaces that explore more, less or otherwise; a mapping, given whole"
    )
    score_weights: dict[str, float] = Field(
        {"click": 1.0},
        description="what a click, a conversion or a further binary outcome is worth beside the others: items rank "
        "by the mean of their probabilities by weight; a mapping, given whole",
    )
    heuristics: HeuristicSettings = Field(
        HeuristicSettings(), description="boosts, blocks, caps and diversity of every surface that has none of its own"
    )

    @field_validator("score_weights")
    @classmethod
    def _weigh_something(cls, weights: dict[str, float]) -> dict[str, float]:
        if (
            not weights
            or not all(0 <= weight < float("inf") for weight in weights.values())
            or not any(weights.values())
        ):
            raise ValueError(f"weights of a score need to be finite, at least 0 and one of them above; found {weights}")
        return dict(sorted(weights.items()))

    @model_validator(mode="after")
    def _surfaces_set_what_their_kind_reads(self) -> Self:
        for surface, own in sorted(self.surfaces.items()):
            kind = own.kind or self.kind
            idle = [name for name, of in EXPLORED_BY.items() if getattr(own, name) is not None and of != kind]
            if idle:
                raise ValueError(f"surface {surface} has a policy of kind {kind}, which reads no {', '.join(idle)}")
        return self

    def on(self, surface: str | None) -> Self:
        """The policy of one surface, the same on all; None: a surface that was not told."""
        if not self.surfaces:
            return self
        own = {name: of for name, of in self.surfaces.get(surface or "", SurfaceSettings()) if of is not None}
        return self.model_copy(update={**own, "surfaces": {}})

    @property
    def plain(self) -> Self:
        """The same without heuristics."""
        return self.model_copy(update={"heuristics": HeuristicSettings()})

    @property
    def columns(self) -> tuple[str, ...]:
        """The ranker columns of items that the heuristics of any surface look at."""
        every = (self.heuristics, *(own.heuristics for own in self.surfaces.values() if own.heuristics))
        return tuple(dict.fromkeys(column for heuristics in every for column in heuristics.columns))


class TaskSettings(Settings):
    """Which task each surface asks a ranker to do: one model serves them all and is told the task.

    A mapping that is given replaces this one whole. It is part of what a ranker learned: train again after changing it.
    """

    of_surface: dict[str, str] = Field(
        {"home": "recommend", "search": "search", "similar": "similar", "notification": "notify"},
        description="surface to task; a mapping, given whole",
    )
    otherwise: str = Field("recommend", description="the task of a surface that is not named")


class OutcomeSettings(Settings):
    """A further outcome of an impression, told by the events of `feedback` that have its name.

    An event belongs to an impression as a click does, within `window_days`; so long the outcome is open.
    """

    kind: Literal["binary", "value"] = Field(
        "binary", description="whether it happened; or how much, the sum of its events' values, 0 without any"
    )
    window_days: int = Field(1, ge=1, description="impression to event; of test rows a click window is closed")
    window: str | None = Field(None, pattern=SPAN, description="the same, in place of it, in hours or minutes: 6h, 90m")
    through: Literal["clicked"] | None = Field(
        None, description="`clicked`: it counts only of impressions that were clicked, and is learned given the click"
    )
    unit: str = Field("", description="of a value, for people: seconds")
    quantiles_by: str = Field(
        "",
        description="of a value: learn its quantile among rows of the same value of this attribute instead, so that "
        "what is long is not preferred for being long (`item.duration` of a watch time)",
    )

    @model_validator(mode="after")
    def _only_values_have_units(self) -> Self:
        if self.unit and self.kind == "binary":
            raise ValueError(f"a binary outcome needs no unit; found {self.unit!r}")
        if self.quantiles_by and self.kind == "binary":
            raise ValueError(f"a binary outcome has no quantiles; found quantiles_by = {self.quantiles_by!r}")
        refuse_two(self, "window")
        return self

    @property
    def span(self) -> timedelta:
        """Impression to event."""
        return span_of(self.window, self.window_days)


OUTCOME_METRICS = {"binary": ("auc", "log_loss"), "value": ("auc_upper_half", "normalised_squared_error")}
"""What a further outcome of a kind is judged by, see `models.evaluation.outcomes`; a gate names one `like.auc`."""


class ItemCFSettings(Settings):
    """Which items count as neighbours."""

    neighbours: int = Field(100, ge=1, description="kept per item")
    shrinkage: float = Field(10.0, ge=0, description="added to a cosine's denominator: few users tell little")


class EaseSettings(Settings):
    """How far the weights may go, and up to how many items."""

    l2: float = Field(1_000.0, gt=0, description="of all weights")
    max_items: int = Field(5_000, ge=2, description="items with interactions; their square is kept and inverted")


class IalsSettings(Settings):
    """The recipe of Rendle et al. (2021)."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    iterations: int = Field(12, ge=1, description="passes over users and items")
    unobserved: float = Field(0.03, gt=0, description="weight of a pair that was not seen together; tune with l2")
    l2: float = Field(0.03, gt=0, description="of all vectors; tune with unobserved")
    l2_exponent: float = Field(1.0, ge=0, le=1, description="0: the same for all; 1: in proportion to frequency")
    start: float = Field(0.1, gt=0, description="standard deviation of the first vectors' lengths")


class ContentSettings(Settings):
    """How words become vectors."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    buckets: int = Field(4_096, ge=16, description="words are hashed into so many columns")


class SkipGramSettings(Settings):
    """How items learn from their neighbours in a session."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    window: int = Field(5, ge=1, description="neighbours on either side in a session")
    pause_days: float = Field(7.0, gt=0, description="a longer pause of the user ends a session")
    epochs: int = Field(2, ge=1, description="passes over the sessions")
    batch: int = Field(1_024, ge=2, description="pairs a step")
    rate: float = Field(0.05, gt=0, description="of learning")


class TwoTowerSettings(Settings):
    """How histories learn to meet what came next."""

    dimensions: int = Field(32, ge=1, description="of a vector")
    hidden: int = Field(64, ge=1, description="width of either tower's hidden layer")
    history: int = Field(50, ge=1, description="items before an interaction that training looks at")
    epochs: int = Field(2, ge=1, description="passes over the interactions")
    batch: int = Field(512, ge=2, description="interactions a step, each other's negatives")
    rate: float = Field(0.05, gt=0, description="of learning")
    dropout: float = Field(0.1, ge=0, lt=1, description="items' own parts left out: words must do alone")


class IndexSettings(Settings):
    """How vectors are indexed, and what an index must find."""

    kind: Literal["auto", "exact", "ivf", "pq", "hnsw"] = Field(
        "auto", description="auto: exact up to exact_max_items vectors, ivf above"
    )
    exact_max_items: int = Field(
        100_000, ge=1, description="a scan of so many takes twice as long as lists, of a million ten times"
    )
    ivf_probed: int = Field(
        128,
        ge=1,
        description="lists a search looks into, of about 2 sqrt(vectors); of a million finds 0.96 of the 1,000 nearest",
    )
    pq_refine: int = Field(8, ge=1, description="so many times k codes are looked at again in half precision")
    hnsw_links: int = Field(32, ge=4, description="of each vector in the graph")
    hnsw_breadth: int = Field(200, ge=1, description="of the search when the graph is built, and at least k when asked")
    canary_queries: int = Field(64, ge=1, description="searches whose exact answers travel with the index")
    canary_min_recall: float = Field(0.9, gt=0, le=1, description="of the exact answers, when built and when loaded")


class LightSettings(Settings):
    """The stage between retrieval and a bundle's ranker, off by default: a quick ranker leaves it fewer candidates.

    It cuts whatever is to be ranked, retrieved or brought by the request, and so in a replay what was logged.
    """

    ranker: Literal["popularity", "logistic"] | None = Field(None, description="fitted in the same training; None: off")
    keeps: int = Field(200, ge=1, description="candidates of a request that it leaves; fewer are all left")


class RetrievalSettings(Settings):
    """The first stage: how each retriever learns, how vectors are indexed, what a retriever must show to be chosen.

    Popularity always is one of them, and is served unless another is better for sure.
    """

    kinds: tuple[Literal["item_cf", "ease", "ials", "skip_gram", "content", "two_tower"], ...] = Field(
        ("item_cf", "ease", "content", "two_tower"),
        description="fitted beside popularity; ials and skip_gram are slow, and nowhere better than two_tower yet",
    )
    seed: int = Field(7, description="of every draw")
    k: int = Field(100, ge=1, description="candidates a retriever is judged by, recall@k, and offers for ranking")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval; challengers share what it leaves")
    half_life_days: float = Field(7.0, gt=0, description="popularity: an interaction this old counts half")
    item_cf: ItemCFSettings = ItemCFSettings()
    ease: EaseSettings = EaseSettings()
    ials: IalsSettings = IalsSettings()
    content: ContentSettings = ContentSettings()
    skip_gram: SkipGramSettings = SkipGramSettings()
    two_tower: TwoTowerSettings = TwoTowerSettings()
    index: IndexSettings = IndexSettings()
    light: LightSettings = LightSettings()


class DelaySettings(Settings):
    """How training reads conversions that may still come. Clicks are closed in every dataset: its embargo sees to it.

    `plug_in`: every click, "not yet" read by how conversions are delayed (`models.delays`), learned by surface from the
    dataset's own days; a warm start, whose days are too young for that, takes what its predecessor learned.
    `em`: the same by an exponential law of delays that needs no closed label (Chapelle 2014).
    `censoring_weights`: closed ones and every early yes, weighted by the share of clicks old enough to show it (IPCW).
    `hazards`: a model for each stage of the wait, of clicks past it, multiplied; not for mmoe.
    `fake_negatives`: every click as a no, and once more as a yes when it converts (FNW); on the snapshot that a dataset
    is this learns what has been heard so far, which is too little; not for mmoe.
    `waited`: closed ones only.
    """

    conversion: Literal["waited", "em", "censoring_weights", "hazards", "fake_negatives", "plug_in"] = "plug_in"


class EncodingSettings(Settings):
    """What every ranker that encodes categories can be told; their own settings add to it."""

    max_categories: int = Field(64, ge=1, description="values kept per categorical feature; the rest share one")


class PopularitySettings(Settings):
    """How slowly an item's own rates replace what was believed of it before."""

    prior_impressions: float = Field(50.0, gt=0, description="pseudo-impressions at the mean rate")
    prior_clicks: float = Field(50.0, gt=0, description="pseudo-clicks at the mean conversions per click")


class LinearSettings(EncodingSettings):
    """What a daily warm start of weights keeps."""

    warm_memory: float = Field(
        4.0, ge=0, description="for how many times its own rows what it continues speaks; 0: they alone are heard"
    )


class LogisticSettings(LinearSettings):
    """How far the weights may go."""

    l2: float = Field(1e-4, ge=0, description="of all weights, per row")
    steps: int = Field(60, ge=1, description="at most this many L-BFGS iterations")


class CrossesSettings(LinearSettings):
    """How far the weights may go."""

    l2: float = Field(20.0, ge=0, description="rows that speak for each weight to stay where it was")
    steps: int = Field(40, ge=1, description="at most this many L-BFGS iterations")


class FactorizationSettings(Settings):
    """The factorisation machine: its size, how it learns, and which words it remembers."""

    dimensions: int = Field(8, ge=1, description="of a word's vector")
    batch_size: int = Field(1024, ge=1, description="rows a step")
    epochs: int = Field(1, ge=0, description="passes; ids are learned by heart in further ones")
    warm_epochs: int = Field(1, ge=0, description="passes of a daily warm start over its rows")
    rate: float = Field(0.05, gt=0, description="row-wise AdaGrad's, of vectors and of words' own weights")
    linear_rate: float = Field(0.05, gt=0, description="AdaGrad's, of the numbers' weights")
    l2: float = Field(10.0, ge=0, description="rows that speak, in every batch that has it, for a vector to be 0")
    admit_after: int = Field(5, ge=1, description="rows of one training that a word must be in to get a vector")
    expire_after_days: int = Field(30, ge=1, description="days without a row after which a word's vector is dropped")
    max_ids: int = Field(3_000_000, ge=1, description="vectors per column, the most frequent")


class XGBoostSettings(EncodingSettings):
    """How many trees, how deep, and how much each may say."""

    rounds: int = Field(60, ge=1, description="at most so many: the held-out rows tell when to stop")
    warm_rounds: int = Field(10, ge=1, description="rounds added by a daily warm start, at most")
    stop_after: int = Field(15, ge=0, description="rounds without a gain on the held-out rows; 0: never stops early")
    depth: int = Field(5, ge=1, le=12, description="of a tree, at most")
    eta: float = Field(0.15, gt=0, le=1, description="how much each tree may say")
    warm_eta: float = Field(
        0.03, gt=0, le=1, description="eta of a daily warm start, whose one day would else outweigh a month"
    )
    min_child_weight: float | None = Field(
        None, ge=0, description="least sum of p (1 - p) in a leaf; none: the root of that of all rows"
    )
    conversion_l2: float = Field(
        100.0,
        ge=0,
        description="shrinks the leaves of P(conversion | click), which has a tenth of the rows to learn from",
    )
    spark_tasks: int = Field(
        2, ge=1, description="of Spark that grow its trees together, where it does, see `spark.from_rows`; all at once"
    )


class LambdaMARTSettings(XGBoostSettings):
    """The same, of the trees that order lists, of those that say how likely a click is, and of conversions.

    A leaf of the first needs its share of what all pairs tell: `min_child_weight` is that of the others.
    """

    rounds: int = Field(120, ge=1, description="at most so many: an order takes more trees than a rate")


class NetworkSettings(Settings):
    """A network over vectors of ids: its size, how it learns, and which ids it remembers.

    100 million parameters are `max_ids` 3,000,000 at `embedding_dimensions` 32, mostly.
    """

    expert_width: int = Field(32, ge=1, description="of an expert's hidden layer")
    tower_width: int = Field(32, ge=1, description="of a task's hidden layer")
    embedding_dimensions: int = Field(16, ge=1, description="of an id's, a category's and a last item's vector")
    batch_size: int = Field(1024, ge=1, description="rows a step")
    epochs: int = Field(
        1, ge=0, description="passes; ids are learned by heart in the second: stops early on held-out rows"
    )
    warm_epochs: int = Field(1, ge=0, description="passes of a daily warm start over its rows")
    learning_rate: float = Field(7e-3, gt=0, description="Adam's, of the network; falls to 0 over a fit")
    warm_learning_rate: float = Field(1e-3, gt=0, description="the same in a warm start, which goes on, not begins")
    embedding_learning_rate: float = Field(0.15, gt=0, description="row-wise AdaGrad's, of the vectors")
    embedding_caution: float = Field(
        0.0,
        ge=0,
        description="what AdaGrad's sums begin with, in squared gradients of one row of the logs: above 0 a vector of "
        "few rows moves little, so that further passes learn fewer ids by heart",
    )
    id_dropout: float = Field(
        0.02, ge=0, lt=1, description="values shown as if never seen, from which the vector of such is learned"
    )
    admit_after: int = Field(5, ge=1, description="rows of one training that an id must be in to get a vector")
    expire_after_days: int = Field(30, ge=1, description="days without a row after which an id's vector is dropped")
    max_ids: int = Field(3_000_000, ge=1, description="vectors per id or category column, the most frequent")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where it learns; auto: on a CUDA device where there is one"
    )


class MMoESettings(NetworkSettings):
    """The multi-task network's experts."""

    experts: int = Field(4, ge=1, description="shared by all tasks")
    prune_below: float = Field(
        0.0, ge=0, lt=1, description="drops experts that no task gives this share of its gate, on average; 0: none"
    )


class SingleTaskSettings(NetworkSettings):
    """A network for each task: `expert_width` is that of its hidden layer."""


BY_SURFACE = "_by_surface"
"""Follows the kind of a ranker that has one of its own for each surface (`models.rankers.by_surface`)."""


class RankerSettings(Settings):
    """The settings of each ranker by its kind; one seed for all.

    A new ranker adds its class above and its line here: not in its own file, since that loads numpy, and DAGs, which
    read all settings, are parsed every few seconds.
    """

    seed: int = Field(7, description="of every draw")
    kinds: tuple[str, ...] = Field(
        ("popularity", "logistic", "xgboost", "mmoe"),
        min_length=1,
        description="which a full training fits, of those below; popularity always",
    )
    surfaces: Literal["consolidated", "bespoke", "auto"] = Field(
        "consolidated",
        description="one ranker for all surfaces; one for each, of that surface's rows alone; auto: both, of which the "
        "better on the validation rows is offered to the gate",
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


class Margins(Settings):
    """By how much a challenger may be worse in each metric, for sure; None: that metric is not asked."""

    auc: float | None = Field(0.005, ge=0, description="area under the ROC curve")
    auc_pr: float | None = Field(None, ge=0, description="area under precision and recall")
    log_loss: float | None = Field(0.002, ge=0, description="nats")
    normalised_entropy: float | None = Field(None, ge=0, description="log-loss over that of the base rate")
    ndcg_at_10: float | None = Field(0.005, ge=0, description="of a request's list")
    mrr_at_10: float | None = Field(None, ge=0, description="of a request's list")
    map_at_10: float | None = Field(None, ge=0, description="of a request's list")
    recall_at_1: float | None = Field(None, ge=0, description="of a request's list")
    precision_at_3: float | None = Field(None, ge=0, description="of a request's list")
    hit_rate_at_3: float | None = Field(None, ge=0, description="of a request's list")


METRICS_ONLY = "metrics-only"


class WatchSettings(Settings):
    """From where on a day's figure is wrong, and how often an alarm may be: see `models.monitoring`.

    A figure alarms when it is beyond its bound for sure. The bounds are what somebody would get up for; the noise of
    the day's sample, and of days, is not theirs to hold.
    """

    false_alarms_a_month: float = Field(0.5, gt=0, le=10, description="of all figures together, on days of no change")
    quiet_days: int = Field(2, ge=1, description="days in a row without an alarm after which an incident closes")
    baseline_days: int = Field(28, ge=7, description="days before that a figure is held against, open ones left out")
    max_drift: float = Field(0.1, gt=0, description="population stability index of a column, its bias taken off")
    max_null_rise: float = Field(0.02, gt=0, lt=1, description="share of nulls above the reference's")
    max_unseen: float = Field(0.02, gt=0, lt=1, description="share of words that the reference never saw")
    max_rate_change: float = Field(0.25, gt=0, description="of a click, conversion or predicted rate, relative")
    max_traffic_change: float = Field(0.5, gt=0, description="of requests, and of the busiest users' share, relative")
    max_share_change: float = Field(0.1, gt=0, lt=1, description="of the new items' share, absolute")
    max_repeated: float = Field(0.02, gt=0, lt=1, description="share of events that were there before")
    max_weight_change: float = Field(0.1, gt=0, description="of the mean weight that audits propensities, absolute")
    max_auc_shortfall: float = Field(0.01, gt=0, lt=0.5, description="AUC below what the probabilities promise")
    max_calibration: float = Field(1.25, gt=1, description="clicks predicted over clicks that came, or the inverse")
    max_model_age_days: int = Field(14, ge=1, description="from the newest row that the live model learned from")
    max_delay_change: float = Field(0.25, gt=0, description="of the usual wait for a conversion, relative")


class GateSettings(Settings):
    """What a challenger must show before a person is even asked."""

    profile: Literal["counterfactual", "metrics-only"] = Field(
        "counterfactual",
        description="what a gain is shown by: clicks of the replayed logs; or, where those hold no propensities and "
        "nobody can tell that value, the metrics of `must_rise` on what was shown",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval")
    risk_days: int = Field(
        14,
        ge=1,
        description="all looks of so many days share one risk of a false promotion, 1 - confidence (half of it on the "
        "side of a gain); the ledger of looks counts them, whatever day, mode or challenger they are of",
    )
    expected_looks: int = Field(
        2,
        ge=1,
        description="of those days: so many spend alike, each further one less; a wrong number costs power, never risk",
    )
    days: int = Field(
        1,
        ge=1,
        description="for so many days, of its training and after it, a challenger may stand: each is one more look, on "
        "all of them pooled; a promotion or a new champion ends it, and only then is another of its mode judged",
    )
    min_effective_n: float = Field(200.0, ge=1, description="below it the counterfactual estimate is refused")
    max_weight_share: float = Field(0.05, gt=0, le=1, description="largest single weight / sum of weights")
    max_tail_shape: float = Field(0.5, gt=0, description="Pareto shape of the largest weights, see tail_shape")
    max_mean_weight_z: float = Field(4.0, gt=0, description="standard errors the mean weight may be away from 1")
    max_unsupported_mass: float = Field(0.01, ge=0, le=1, description="target's choices that could not be logged")
    max_logging_drift: float = Field(0.25, ge=0, description="stability index of propensities, a day against the rest")
    max_incomplete_share: float | None = Field(
        0.01,
        ge=0,
        le=1,
        description="requests without one first placement, or pages with a gap; a value is refused",
    )
    min_propensity: float | None = Field(
        None,
        gt=0,
        le=1,
        description="the least probability with which the logging policy took anything, where it is known (epsilon / "
        "candidates): it bounds the weights, and is asked for in place of max_tail_shape",
    )
    balance_risk: float = Field(0.001, gt=0, lt=1, description="that right logs are refused by the balance of weights")
    min_clicks_each_side: float = Field(
        5.0, ge=0, description="equally weighted clicks on what either side is likelier to show than the other"
    )
    min_decisions_that_matter: float = Field(3.0, ge=1, description="decisions (or users) that the error rests on")
    min_lift: float = Field(
        0.001,
        description="the least gain worth having, a share of what the champion earns: the estimate must reach it and "
        "be above 0 for sure; below 0, a loss that may be made",
    )
    max_loss_to_logging: float | None = Field(
        0.02, ge=0, description="a share of what is earned by what is shown now, that the challenger may lose for sure"
    )
    min_replayed_share: float | None = Field(0.8, ge=0, le=1, description="requests that can be replayed")
    estimators: tuple[Literal["snips", "dr", "sndr", "pages"], ...] = Field(
        (), description="further estimators whose bound must clear min_lift: snips, dr, sndr, pages"
    )
    max_conversion_drop: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="of the champion's conversions per request: a loss of more for sure holds, once labels are closed",
    )
    max_conversion_drop_so_far: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="the same before they are closed, by the delay curve and an interval that knows how wrong it is",
    )
    must_not_fall: Margins = Margins()
    must_rise: tuple[str, ...] = Field(
        (), description="metrics that must be better for sure; of a further outcome `<outcome>.<metric>`: like.auc"
    )
    outcomes_must_not_fall: dict[str, float] = Field(
        {}, description="by how much a challenger may be worse in a metric of a further outcome, for sure: like.auc"
    )
    min_test_rows: int = Field(1_000, ge=1, description="impressions of the test day; fewer are refused")
    min_known_share: float | None = Field(0.9, ge=0, le=1, description="test impressions whose click is known")
    max_calibration_ratio: float | None = Field(
        1.2,
        gt=1,
        description="by which factor too many, or too few, clicks it may predict; 500 clicks show it of a good model",
    )
    max_calibration_error: float | None = Field(
        0.3, ge=0, description="its calibration error, debiased, as a share of the click rate"
    )
    slice_metric: str = Field(
        "auc", description="auc, auc_pr, log_loss, normalised_entropy, or a list metric: ndcg_at_10"
    )
    max_slice_drop: float | None = Field(0.05, ge=0, description="what no slice may lose for sure, in slice_metric")
    min_slice_rows: int = Field(500, ge=2, description="test rows that a slice needs to be judged")
    max_concentration_rise: float | None = Field(0.5, ge=0, le=1, description="shrinking of the items recommended most")
    max_skew: float | None = Field(0.001, ge=0, le=1, description="replayed decisions with other features than trained")
    max_latency_ms: float | None = Field(50.0, gt=0, description="p99 of scoring one request")
    max_warm_loss: float | None = Field(0.002, ge=0, description="nats a warm start may lose to its full training")
    bootstrap_replicates: int = Field(200, ge=50, description="of users, for intervals that have no closed form")

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
