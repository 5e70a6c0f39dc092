"""`python -m jobs.off_policy PATH --estimator snips`: what a policy would have earned, from a file of logged decisions.

PATH is a Parquet file or a folder of them. Columns, one row per logged decision: `reward`, `logged` (probability under
the policy that decided), `target` (probability of the same decision under the policy to be judged); where the estimator
has a reward model `predicted_logged` and `predicted_target`; for pages `slate` and `position`; and, where it is there,
`cluster`, usually the user. `jobs.off_policy.columns` says what each must hold.

Prints one JSON object: the estimate or why it is refused (by the gate's settings), and how far the weights can be
trusted. Memory is a batch and a few numbers per cluster, whatever the rows; `--spark` spreads rows over partitions.
Exit codes are those of `jobs.errors`; a refused estimate is an answer, so it ends with 0.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import config
from jobs.config import SparkSettings
from jobs.errors import EXIT_OK, NotReady, Refused, TidegateError, UsageError
from jobs.off_policy import columns
from jobs.off_policy.question import NAMES, WITH_OPTION, Question
from jobs.off_policy.sums import Part, added_up, answered, read

BATCH = 65_536


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


def files(path: Path) -> list[Path]:
    """The file, or the Parquet files below the folder, sorted; names that start with `.` or `_` are ignored.

    Raises `UsageError` where there is no such path, `NotReady` where a folder has none.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"PATH must be a Parquet file or a folder of them; found nothing at {path}")
    below = (p.relative_to(path) for p in path.rglob("*.parquet"))
    found = sorted(path / p for p in below if not any(part.startswith((".", "_")) for part in p.parts))
    if not found:
        raise NotReady(f"{path} needs *.parquet files; found none")
    return found


def names_of(pairs: Sequence[str]) -> dict[str, str]:
    """Our column names to the files', from `NAME=FOUND`; raises `UsageError` for a name that is not ours."""
    names = {}
    for pair in pairs:
        name, _, found = pair.partition("=")
        if name not in (*columns.RULES, *columns.KEYS) or not found:
            known = ", ".join((*columns.RULES, *columns.KEYS))
            raise UsageError(f"--column needs NAME=FOUND with NAME one of {known}; found {pair!r}")
        names[name] = found
    return names


def option_of(options: argparse.Namespace) -> float | None:
    """The estimator's option; raises `UsageError` where one of another estimator is given."""
    given = {o: getattr(options, o) for o, _ in WITH_OPTION.values() if getattr(options, o) is not None}
    takes = WITH_OPTION[options.estimator][0] if options.estimator in WITH_OPTION else None
    for other in given.keys() - {takes}:
        raise UsageError(f"--{other} is not an option of {options.estimator}; it takes {takes or 'none'}")
    return given.get(takes) if takes else None


def schema_of(path: Path, names: Mapping[str, str]) -> pa.Schema:
    """A file's columns under our names; raises `Refused` where it is no Parquet file."""
    try:
        found = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise Refused(f"{path} needs to be a Parquet file; found: {str(error).splitlines()[0]}") from error
    files_name = {name: names.get(name, name) for name in (*columns.RULES, *columns.KEYS)}
    ours = [found.field(file).with_name(name) for name, file in files_name.items() if file in found.names]
    return pa.schema([*ours, *(f for f in found if f.name not in files_name.values())])


def batches(path: Path, question: Question, names: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """The question's columns of a file, a batch at a time; raises `Refused` where the file is broken."""
    wanted = [names.get(name, name) for name in question.columns]
    try:
        for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=sorted(set(wanted))):
            yield batch.select(wanted).rename_columns(list(question.columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise Refused(f"{path} needs to be readable; found: {str(error).splitlines()[0]}") from error


def on_spark(paths: Sequence[Path], question: Question, names: Mapping[str, str], partitions: SparkSettings) -> Part:
    """The same of all files on Spark."""
    from jobs.off_policy.spark import read_frame
    from jobs.spark import session

    with session(partitions, "off-policy") as spark:
        frame = spark.read.parquet(*map(str, paths))
        columns_of = [frame[names.get(name, name)].alias(name) for name in question.columns]
        return read_frame(frame.select(*columns_of), question)


def main(argv: Sequence[str]) -> int:
    """Parse, read, print; returns the exit code."""
    options = _parser().parse_args(argv)
    started = time.monotonic()
    settings = config.load()
    names = names_of(options.column)
    paths = files(options.path)
    schemas = {path: schema_of(path, names) for path in paths}
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
        part = on_spark(paths, question, names, settings.spark)
    else:
        part = added_up(read(batches(path, question, names), question, str(path)) for path in paths)
    answer = answered(part, question, settings.gate)
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"files": len(paths), **answer.as_dict(), "seconds": seconds}), flush=True)
    return EXIT_OK


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except TidegateError as refused:
        print(f"{type(refused).__name__}: {refused}", file=sys.stderr)
        code = refused.exit_code
    sys.exit(code)
