"""Which logged impressions the endpoint decided, read from the name of the policy it writes beside them."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from jobs.serving.answer import FALLBACK


def served_by(policy: pa.ChunkedArray, candidates: Collection[str]) -> pa.ChunkedArray:
    """Whether each impression was decided by a deployed candidate, by its fallback included."""
    names = pa.array([name + suffix for name in sorted(candidates) for suffix in ("", FALLBACK)], pa.string())
    return pc.is_in(policy, names)
