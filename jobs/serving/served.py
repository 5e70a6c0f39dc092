"""Which logged impressions the endpoint decided, read from the name of the policy it writes beside them."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from jobs.serving.answer import FALLBACK


def served_by(policy: pa.ChunkedArray, candidates: Collection[str]) -> pa.ChunkedArray:
    """Whether each impression was decided by a deployed candidate, by its fallback included."""
    return pc.is_in(policy, pa.array(policies_of(candidates), pa.string()))


def policies_of(candidates: Collection[str]) -> list[str]:
    """What the endpoint writes beside what they decide, or their fallbacks do."""
    return [name + suffix for name in sorted(candidates) for suffix in ("", FALLBACK)]
