"""What of a person lies where Tidegate cannot take it out, each with what to do about it."""

import json
from collections.abc import Iterator
from pathlib import Path

from jobs.config import Config
from jobs.config.base import without_password
from jobs.places import Place, S3Path

SOON = "stages that ran meanwhile may have brought rows back: run forget again once they have ended"
BIG = 1 << 28
"""Files of more bytes are not looked into."""


def reach(config: Config, user: str) -> list[str]:
    """A sentence each: where ids or what was learned from them may stay."""
    return list(_sentences(config, user))


def _sentences(config: Config, user: str) -> Iterator[str]:
    yield SOON
    source = "the team's own loggers" if config.source.name == "parquet" else f"the source {config.source.name}"
    yield f"{source}: what gives a day again gives these rows again, remove them there first"
    naming = _naming(config.bundles, user)
    if naming:
        yield (
            f"bundles are what was judged, by their sha256, and do not change: {len(naming)} name this id: "
            f"{', '.join(naming[:5])}; train anew, deploy, then delete them"
        )
    yield "bundles' parameters were learned with these rows too; what is trained from now on is not"
    at = without_password(config.tracking.uri)
    yield f"MLflow at {at}: its artifacts have the bundles' files once more; metrics hold no id"
    if config.export.url is not None:
        yield "the database of export.url: the next export replaces each partition that was written again"
    if config.endpoint.on_aws and config.endpoint.aws.bucket:
        yield f"SageMaker's data capture below s3://{config.endpoint.aws.bucket}/{config.endpoint.aws.prefix}"
    yield "copies that others took: other engines' caches, backups, versions that a bucket keeps, topics of a broker"


def _naming(folder: Place, user: str) -> list[str]:
    """The bundles in which the id stands as it is."""
    written = {user.encode(), json.dumps(user)[1:-1].encode()}
    found = set()
    for path in folder.rglob("*"):
        if _is_small_file(path) and any(text in path.read_bytes() for text in written):
            found.add("/".join(path.relative_to(folder).parts[:1]))  # type: ignore[arg-type]  # both are of one kind
    return sorted(found)


def _is_small_file(path: Place) -> bool:
    return isinstance(path, S3Path) or (isinstance(path, Path) and path.is_file() and path.stat().st_size <= BIG)
