"""`python -m jobs.orchestration.outside TEXT [RUN]`: Slack is told of what happens outside Airflow; 1 where it is not.

For whoever imports no Airflow: a person's way back (`python -m jobs rollback`), a stack's services that die. RUN is the
run of `promotion` that TEXT is about. Its one line on stderr says what became of it.
"""

import os
import sys
from collections.abc import Sequence

from jobs.orchestration.alert import send, taken_back


def main(words: Sequence[str]) -> int:
    """Told is through the connection `slack`, wherever Airflow finds it; 0 where Slack took it."""
    # A word of Airflow's: connections are read where a server would, no task is there to ask for them.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    text, *of = words
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    # Slack's client logs the webhook that it tries again, which is a secret; only the log of a task masks it.
    for number in (1, 2):
        os.dup2(nowhere, number)
    missed = send(lambda: taken_back(text, of[0]) if of else text)
    os.write(stderr, f"Slack was {f'not told: {missed}' if missed else 'told'}\n".encode())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
