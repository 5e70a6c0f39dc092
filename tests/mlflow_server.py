"""MLflow's own server over a database of a test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobs.config import TrackingSettings


@contextmanager
def serving(tracking: TrackingSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingSettings]:
    """The same MLflow behind its own server; yields settings that find it."""
    from mlflow import server
    from mlflow.server import handlers
    from werkzeug.serving import make_server

    # What it opened for an earlier test it would open no more.
    for store in ("_tracking_store", "_model_registry_store", "_artifact_repo"):
        monkeypatch.setattr(handlers, store, None)
    monkeypatch.setenv(server.BACKEND_STORE_URI_ENV_VAR, tracking.uri)
    monkeypatch.setenv(server.ARTIFACT_ROOT_ENV_VAR, tracking.artifacts.resolve().as_uri())
    found = make_server("127.0.0.1", 0, server.app, threaded=True)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield tracking.model_copy(update={"uri": f"http://127.0.0.1:{found.server_port}"})
    finally:
        found.shutdown()
