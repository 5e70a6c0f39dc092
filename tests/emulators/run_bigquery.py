"""bqemulator at a port, by its own interpreter: `run_bigquery.py PORT`.

Without geography, whose extension it would fetch from elsewhere.
"""

import sys

from bqemulator import cli
from bqemulator.storage import engine

for kind in [kind for kind in vars(engine).values() if hasattr(kind, "_load_spatial")]:
    kind._load_spatial = lambda self: None
cli.main(["start", "--rest-port", sys.argv[1], "--grpc-port", "0"])
