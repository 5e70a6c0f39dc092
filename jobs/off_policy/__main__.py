"""`python -m jobs.off_policy PATH --estimator snips`: what a policy would have earned, from a file of logged decisions.

PATH is a Parquet file or a folder of them. Columns, one row per logged decision: `reward`, `logged` (probability under
the policy that decided), `target` (probability of the same decision under the policy to be judged); where the estimator
has a reward model `predicted_logged` and `predicted_target`; for pages `slate` and `position`; and, where it is there,
`cluster`, usually the user. `jobs.off_policy.columns` says what each must hold.

Prints one JSON object: the estimate or why it is refused (by the gate's settings), and how far the weights can be
trusted; a number that JSON has no name for is null, and `not_finite` says what it was. Memory is a batch and a few
numbers per cluster, whatever the rows; `--spark` spreads rows over partitions.
Exit codes are those of `jobs.errors`; a refused estimate is an answer, so it ends with 0.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from jobs import config
from jobs.config import SparkSettings
from jobs.errors import EXIT_OK, UsageError, run_as_command
from jobs.off_policy import columns
from jobs.off_policy.files import OURS, batches, files, schemas_of
from jobs.off_policy.question import NAMES, WITH_OPTION, Question
from jobs.off_policy.sums import Part, added_up, answered, read
from models.evaluation.estimate import exactly


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `python -m jobs.off_policy --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m jobs.off_policy", description="Judge a policy by logged decisions of another.")
    parser.add_argument("path", type=Path, help="a Parquet file, or a folder of them")
    parser.add_argument("--estimator", required=True, help=f"one of {', '.join(NAMES)}")
    for name, (option, _) in WITH_OPTION.items():
        parser.add_argument(f"--{option}", type=float, help=f"of {name}")
    parser.add_argument(
        "--column", action="append", default=[], metavar="NAME=FOUND", help="read the column NAME from the one FOUND"
    )
    parser.add_argument("--bootstrap", action="store_true", help="also a bootstrap of clusters")
    parser.add_argument("--spark", action="store_true", help="on Spark's partitions instead of in one process")
    return parser


def names_of(pairs: Sequence[str]) -> dict[str, str]:
    """Our column names to the files', from `NAME=FOUND`; raises `UsageError` for a name that is not ours, or twice."""
    names: dict[str, str] = {}
    for pair in pairs:
        name, _, found = pair.partition("=")
        if name not in OURS or not found:
            raise UsageError(f"--column needs NAME=FOUND with NAME one of {', '.join(OURS)}; found {pair!r}")
        if name in names:
            raise UsageError(f"--column needs each NAME once; found {name}={names[name]} and {pair}")
        names[name] = found
    return names


def option_of(options: argparse.Namespace) -> float | None:
    """The estimator's option; raises `UsageError` where one of another estimator is given."""
    given = {o: getattr(options, o) for o, _ in WITH_OPTION.values() if getattr(options, o) is not None}
    takes = WITH_OPTION[options.estimator][0] if options.estimator in WITH_OPTION else None
    for other in given.keys() - {takes}:
        raise UsageError(f"--{other} is not an option of {options.estimator}; it takes {takes or 'none'}")
    return given.get(takes) if takes else None


def on_spark(
    schemas: Mapping[Path, pa.Schema], question: Question, names: Mapping[str, str], settings: SparkSettings
) -> Part:
    """The same of all files on Spark."""
    from jobs.off_policy.spark import read_files
    from jobs.spark import session

    with session(settings, "off-policy") as spark:
        return read_files(spark, list(schemas), next(iter(schemas.values())), question, names)


def finite(tree: Mapping[str, Any], where: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """The tree with null for every number that JSON cannot tell, and what each of those was by its path."""
    kept, lost = dict[str, Any](), dict[str, str]()
    for name, value in tree.items():
        if isinstance(value, Mapping):
            kept[name], more = finite(value, f"{where}{name}.")
            lost |= more
        elif isinstance(value, float) and not math.isfinite(value):
            kept[name], lost[where + name] = None, exactly(value)
        else:
            kept[name] = value
    return kept, lost


def main(argv: Sequence[str]) -> int:
    """Parse, read, print; returns the exit code."""
    options = _parser().parse_args(argv)
    started = time.monotonic()
    settings = config.load()
    names = names_of(options.column)
    paths = files(options.path)
    schemas = schemas_of(paths, names)
    question = Question(
        options.estimator,
        option_of(options),
        clustered=any("cluster" in schema.names for schema in schemas.values()),
        replicates=settings.gate.bootstrap_replicates if options.bootstrap else 0,
    )
    for path, schema in schemas.items():
        columns.refuse_columns(schema, question.columns, str(path))
    # One user must have one name everywhere; Spark asks for one type of every column.
    alike = question.columns if options.spark else [n for n in columns.KEYS if n in question.columns]
    columns.refuse_mixed(schemas.values(), alike)
    if options.spark:
        part = on_spark(schemas, question, names, settings.spark)
    else:
        part = added_up(read(batches(path, question, names), question, str(path)) for path in paths)
    answer, lost = finite(answered(part, question, settings.gate).as_dict())
    said = {"files": len(paths), **answer, "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(said | ({"not_finite": lost} if lost else {}), allow_nan=False), flush=True)
    return EXIT_OK


if __name__ == "__main__":
    run_as_command(main)
