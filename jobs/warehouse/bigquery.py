"""BigQuery, through Google's own client: its ADBC driver has neither transactions nor a way to put rows in.

Who asks is what the machine says (`GOOGLE_APPLICATION_CREDENTIALS`, or the service account it runs as). Rows come as
Arrow through the storage API where `google-cloud-bigquery-storage` is installed, else as slower pages of JSON.
"""

import importlib
import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import Misconfigured, one_line
from jobs.warehouse.base import Database, failed, wide

KEPT = timedelta(days=1)
"""How long rows of a process that was killed stay beside."""


class BigQuery(Database):
    """A dataset of a project."""

    MARK = "`"
    TEXT, FLOAT, LOCAL, ZONED = "string", "float64", "datetime", "timestamp"

    def __init__(self, library: Any, client: Any, dataset: str) -> None:
        self._library, self._client, self._dataset = library, client, dataset

    def read(self, query: str) -> pa.Table:
        """See `Database.read`."""
        storage = find_spec("google.cloud.bigquery_storage") is not None
        rows: pa.Table = self._asked(query).to_arrow(create_bqstorage_client=storage)
        return rows

    def do(self, *statements: str) -> None:
        """See `Database.do`."""
        together = len(statements) > 1
        self._asked(";\n".join(["begin transaction", *statements, "commit transaction"] if together else statements))

    @contextmanager
    def beside(self, rows: pa.Table) -> Iterator[str]:
        """See `Database.beside`: a table of the dataset's, which BigQuery drops after a day."""
        name = f"{self._dataset}.incoming_{uuid.uuid4().hex}"
        until = (datetime.now(UTC) + KEPT).strftime("%Y-%m-%d %H:%M:%S+00")
        kept = f"options (expiration_timestamp = timestamp '{until}')"
        self.do(f"create table {self.quoted(name)} ({self.columns(rows.schema)}) {kept}")
        try:
            into = self._library.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
            self._client.load_table_from_file(_parquet(wide(rows)), name, job_config=into).result()
            yield self.quoted(name)
        finally:
            self._client.delete_table(name, not_found_ok=True)

    def table(self, name: str) -> str:
        """See `Database.table`: of the dataset, unless it names another."""
        return self.quoted(name if "." in name else f"{self._dataset}.{name}")

    def literal(self, text: str) -> str:
        """See `Database.literal`."""
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def _asked(self, query: str) -> Any:
        config = self._library.QueryJobConfig(default_dataset=self._dataset)
        return self._client.query(query, job_config=config).result()


@contextmanager
def connected(address: str) -> Iterator[BigQuery]:
    """See `jobs.warehouse.connected`."""
    library = importlib.import_module("google.cloud.bigquery")
    errors = importlib.import_module("google.api_core.exceptions")
    auth = importlib.import_module("google.auth.exceptions")
    requests = importlib.import_module("requests.exceptions")
    away = (errors.ServerError, errors.TooManyRequests, errors.RetryError)
    at = urlsplit(address)
    if not (at.netloc and at.path.strip("/")):
        raise Misconfigured("bigquery needs an address bigquery://project/dataset; found no project or no dataset")
    try:
        with library.Client(project=at.netloc) as client:
            yield BigQuery(library, client, f"{at.netloc}.{at.path.strip('/')}")
    except (*away, auth.TransportError, requests.RequestException) as error:
        raise failed("bigquery", one_line(error, 400), ask_again=True) from error
    except (errors.GoogleAPICallError, auth.GoogleAuthError) as error:
        raise failed("bigquery", one_line(error, 400), ask_again=False) from error


def _parquet(rows: pa.Table) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(rows, file)
    file.seek(0)
    return file
