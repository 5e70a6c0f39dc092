"""What an endpoint is serving right now: loaded variants and their weights, replaced as one object by an update."""

from collections.abc import Mapping
from dataclasses import dataclass

from infra.endpoint.processes import Processes
from models.experiments.assignment import unit_hash


@dataclass(frozen=True)
class Shadow:
    """A variant that answers a share of the requests, in [0, 1], to nobody."""

    name: str
    variant: Processes
    share: float


@dataclass(frozen=True)
class Serving:
    """The variants of one endpoint config, every process of which has answered.

    Immutable: a request sees one config from start to end.
    """

    endpoint: str
    variants: Mapping[str, Processes]
    weights: Mapping[str, float]
    capture_percentage: int
    config: str = ""
    shadow: Shadow | None = None
    incoming: "Incoming | None" = None

    def of(self, key: str, target: str | None = None) -> "Serving":
        """The config that answers a user's (or request's) requests while an update moves them from this one to another.

        Who has moved stays moved while the share grows; another update draws anew. A variant asked for by its name is
        found in whichever has it.
        """
        if self.incoming is None:
            return self
        both = [self, self.incoming.serving]
        if unit_hash(f"shift:{self.endpoint}:{self.incoming.salt}:{key}") < self.incoming.share:
            both.reverse()
        return next((one for one in both if target in one.variants), both[0])

    def named(self) -> list[tuple[str, Processes]]:
        """All that answer, the shadow last."""
        shadow = [] if self.shadow is None else [(self.shadow.name, self.shadow.variant)]
        return [*self.variants.items(), *shadow]

    def choose(self, key: str) -> str:
        """The variant of a user (or request) id: the same key gets the same variant while the weights stay.

        The unit interval is divided by the weights in the config's order; the key's hash is a point of it, so a
        change of weights moves only the users between the old and the new borders. Another config draws anew: the same
        users would else be the canary of every release.
        """
        total = sum(self.weights.values())
        point = unit_hash(f"{self.endpoint}:{self.config}:{key}") * total
        passed = 0.0
        for name, weight in self.weights.items():
            passed += weight
            if point < passed:
                return name
        return [name for name, weight in self.weights.items() if weight > 0][-1]

    def shadowed(self, request_id: str) -> bool:
        """Whether the shadow answers this request too."""
        return self.shadow is not None and unit_hash(f"shadow:{self.config}:{request_id}") < self.shadow.share

    def captures(self, request_id: str) -> bool:
        """Whether this request belongs to the captured sample."""
        return unit_hash(f"capture:{request_id}") * 100 < self.capture_percentage


@dataclass(frozen=True)
class Incoming:
    """The config that an update brings in, and its share of the requests, in [0, 1]."""

    serving: Serving
    share: float
    salt: str
