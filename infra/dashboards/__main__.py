"""`python -m infra.dashboards`: write the dashboards again."""

from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from infra.dashboards.boards import BOARDS
from jobs.errors import EXIT_OK, UsageError, run_as_command

FOLDER = Path(__file__).parent / "json"


def rendered() -> dict[str, str]:
    """Each dashboard's JSON by its file name."""
    return {
        f"{board.__name__}.json": JSONEncoder(sort_keys=True, indent=2).encode(board().build()) + "\n"
        for board in BOARDS
    }


def main(argv: Sequence[str]) -> int:
    """Write them; returns the exit code."""
    if argv:
        raise UsageError(f"python -m infra.dashboards takes nothing; found {' '.join(argv)}")
    for name, text in rendered().items():
        (FOLDER / name).write_text(text)
        print(f"wrote {FOLDER / name}")
    return EXIT_OK


if __name__ == "__main__":
    run_as_command(main)
