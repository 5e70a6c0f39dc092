"""Snowflake and BigQuery as emulators that answer their own drivers over loopback.

`python -m tests.emulators` makes what they need, once: an environment for each emulator (they want other versions than
the lock has) and a folder of the drivers that a team installs beside Tidegate. Both answer SQL by DuckDB: they show
that we speak each one's protocol, names, types and transactions, not how fast or how strict the real ones are.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.request import urlopen

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ROOT = Path(__file__).resolve().parents[2]
SIDE = ROOT / "var" / "emulators"
DRIVERS = SIDE / "drivers"
ENVIRONMENTS = {
    "snowflake": ("fakesnow[server]==0.12.1", "snowflake-connector-python<5"),
    "bigquery": ("bqemulator==1.4.0", "numpy"),
}
BESIDE = (
    "adbc-driver-snowflake", "google-cloud-bigquery", "google-api-core", "google-cloud-core", "google-resumable-media",
    "google-crc32c", "proto-plus", "grpcio-status", "importlib-resources",
)  # fmt: skip
"""Without their dependencies, which the lock has."""
KINDS = tuple(ENVIRONMENTS)
STARTED_SECONDS = 120
PROJECT, DATASET = "shop", "analytics"


def prepare() -> None:
    """Install what is not there yet: some 800 MB, a minute or two."""
    if (SIDE / "ready").exists():
        return
    quiet = ("install", "-q", "--disable-pip-version-check")
    for kind, packages in ENVIRONMENTS.items():
        print(f"[emulators] {kind}: {', '.join(packages)}")
        subprocess.run([sys.executable, "-m", "venv", str(SIDE / kind)], check=True)
        subprocess.run([str(SIDE / kind / "bin" / "pip"), *quiet, *packages], check=True)
    print(f"[emulators] drivers: {', '.join(BESIDE)}")
    pip = str(SIDE / KINDS[0] / "bin" / "pip")
    subprocess.run([pip, *quiet, "--no-deps", "--target", str(DRIVERS), *BESIDE], check=True)
    (SIDE / "ready").touch()


@contextmanager
def running(kind: str, folder: Path, port: int) -> Iterator[str]:
    """The address of an emulator of a kind, which ends with this."""
    script = Path(__file__).with_name(f"run_{kind}.py")
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen([SIDE / kind / "bin" / "python", script, str(port)], stdout=log, stderr=log)
    try:
        _answers(process, port, folder / f"{kind}.log")
        yield _ADDRESSES[kind](folder, port)
    finally:
        process.terminate()
        process.wait(30)


def _answers(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Wait until it does; raises what it said where it ended."""
    until = time.monotonic() + STARTED_SECONDS
    while time.monotonic() < until:
        try:
            urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
        except OSError as error:
            if hasattr(error, "code"):
                return  # It answers, if only that nothing is there.
            if process.poll() is not None:
                break
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"an emulator needs to start; found: {log.read_text()[-2000:]}")


def _snowflake(folder: Path, port: int) -> str:
    return f"snowflake://fake:snow@127.0.0.1:{port}/SHOP/PUBLIC?account=fakesnow&protocol=http&maxRetryCount=1"


def _bigquery(folder: Path, port: int) -> str:
    """Its client finds it, and who asks, where it finds Google: in the environment and in a service account's file."""
    os.environ["BIGQUERY_EMULATOR_HOST"] = f"http://127.0.0.1:{port}"
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(_service_account(folder))
    from google.cloud import bigquery  # type: ignore[attr-defined]

    with bigquery.Client(project=PROJECT) as client:
        client.create_dataset(DATASET, exists_ok=True)
    return f"bigquery://{PROJECT}/{DATASET}"


_ADDRESSES = {"snowflake": _snowflake, "bigquery": _bigquery}


class _Tokens(BaseHTTPRequestHandler):
    """Google's side of a service account: a token for whoever signs."""

    def do_POST(self) -> None:
        body = json.dumps({"access_token": "a", "expires_in": 3600, "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _service_account(folder: Path) -> Path:
    server = HTTPServer(("127.0.0.1", 0), _Tokens)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "account.json"
    account = {"type": "service_account", "client_email": "jobs@shop.test", "private_key": key.decode()}
    path.write_text(json.dumps({**account, "token_uri": f"http://127.0.0.1:{server.server_port}/token"}))
    return path
