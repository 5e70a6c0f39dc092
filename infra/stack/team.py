"""What a stack stands on as a team runs it: PostgreSQL and Redis, in databases of its own. See docs/team.md.

Of PostgreSQL these are named by stack and checkout, and made where they are absent. Redis has numbers in place of
names: a stack takes one that is empty, and marks it. Nobody else's database is written to, and none is dropped but by
a demo, which starts from nothing.
"""

import hashlib
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg2
import redis
from psycopg2 import sql
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from infra.stack.processes import StackError
from jobs.config import Config
from jobs.errors import one_line

LOCAL = "postgresql://127.0.0.1:5432"
"""Where PostgreSQL is unless `airflow.database` says otherwise."""
DRIVER = "postgresql+psycopg2"
HOUSEKEEPING = "postgres"
"""The database that every server has: from it others are made."""
HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]")
ANSWER_SECONDS = 5
OWNER = "tidegate:stack"
"""The key by which a stack knows its Redis database again."""
POOLS = '{"training": 1, "spark": 2}'
LOST_SECONDS = 120
"""A task whose worker has not been heard of for so long is tried again."""
REDELIVERED_SECONDS = 86_400
"""Redis gives a message again that nobody has confirmed for so long: longer than any stage may take."""


@dataclass(frozen=True)
class Redis:
    """A Redis by Feast's words: `host:port,db=1,password=…`."""

    host: str
    port: int
    options: Mapping[str, str]

    @classmethod
    def of(cls, text: str) -> "Redis":
        """As `features.redis_url` has it; raises `StackError` for what is no single server."""
        server, *rest = text.split(",")
        host, _, port = server.rpartition(":")
        options = dict(option.partition("=")[::2] for option in rest)
        if not HOST.fullmatch(host) or not port.isdigit() or "" in options.values():
            raise StackError(f"features.redis_url must be host:port[,db=1][,password=…]; found {server}…")
        return cls(host, int(port), options)

    @property
    def words(self) -> str:
        """As Feast has it."""
        return ",".join([f"{self.host}:{self.port}", *(f"{name}={value}" for name, value in self.options.items())])

    def at(self, database: int) -> "Redis":
        """Another of its databases."""
        return Redis(self.host, self.port, {**self.options, "db": str(database)})

    @property
    def url(self) -> str:
        """As Celery has it."""
        scheme = "rediss" if self._secure else "redis"
        username, password = (self.options.get(name) for name in ("username", "password"))
        database = self.options.get("db", "0")
        made = URL.create(scheme, username or "", password, self.host, self.port, database)
        return made.render_as_string(hide_password=False).replace("://@", "://")

    @property
    def _secure(self) -> bool:
        return self.options.get("ssl", "").lower() == "true"

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """A client; raises `StackError` where the server does not answer, or refuses."""
        client = redis.Redis.from_url(self.url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)
        with closing(client):
            try:
                yield client
            except redis.RedisError as error:
                found = f"needs Redis at {self.host}:{self.port} (features.redis_url); found: {one_line(error)}"
                raise StackError(f"a stack on team {found}") from error


@dataclass(frozen=True)
class Team:
    """The servers of one stack, and the names of what is its own there."""

    server: URL
    redis: Redis
    name: str
    """Begins the names of its databases."""

    @classmethod
    def of(cls, folder: Path, config: Config) -> "Team":
        """Of the stack in `folder`; raises `StackError` for addresses that are none."""
        told = config.airflow.database
        text = told.get_secret_value() if told else LOCAL
        try:
            server = make_url(text)
        except ArgumentError as error:
            raise StackError("airflow.database must be postgresql://[user[:password]@]host[:port]") from error
        if server.get_backend_name() != "postgresql":
            raise StackError(f"airflow.database must be postgresql://…; found {server.get_backend_name()}://…")
        checkout = hashlib.sha256(f"{platform.node()}:{folder.resolve()}".encode()).hexdigest()[:8]
        stack = re.sub(r"[^a-z0-9]", "_", folder.name.lower())[:30]
        return cls(server, Redis.of(config.features.redis_url), f"tidegate_{stack}_{checkout}")

    def settings(self, config: Config) -> dict[str, str]:
        """The settings of `jobs.config` of a stack that stands on these; asks both servers first.

        Raises `StackError` where one does not answer, or Redis has no database to spare.
        """
        with self._database(HOUSEKEEPING):
            pass
        pools = {} if config.airflow.pools else {"airflow.pools": POOLS}
        return {"features.online_store": "redis", "features.redis_url": self._own().words, **pools}

    def _own(self) -> Redis:
        """Redis with the number of the stack's own database: the one that settings name, its own, or an empty one."""
        if "db" in self.redis.options:
            with self.redis.asked() as client:
                client.ping()
            return self.redis
        with self.redis.asked() as client:
            try:
                count = int(client.config_get("databases")["databases"])
            except redis.ResponseError:  # a Redis that somebody else looks after tells nobody
                count = 1
        found = [self._mark(number) for number in range(1, count)]
        for mark in (self.name, None):
            for number, owner in enumerate(found, 1):
                if owner == mark and self._take(number):
                    return self.redis.at(number)
        where = f"{self.redis.host}:{self.redis.port}"
        raise StackError(
            f"a stack on team needs a Redis database of its own; of the {count} at {where} none but the first is "
            "empty: name one that it may use, TIDEGATE__FEATURES__REDIS_URL=host:port,db=N"
        )

    def _mark(self, number: int) -> str | None:
        """Whose database it is; None of an empty one."""
        with self.redis.at(number).asked() as client:
            owner = client.get(OWNER)
            return str(owner.decode()) if owner else (None if client.dbsize() == 0 else "somebody else's")

    def _take(self, number: int) -> bool:
        """Mark it, unless another stack was faster."""
        with self.redis.at(number).asked() as client:
            client.set(OWNER, self.name, nx=True)
            return bool(client.get(OWNER) == self.name.encode())

    @property
    def airflow(self) -> str:
        """Airflow's database."""
        return self._address("airflow")

    @property
    def mlflow(self) -> str:
        """MLflow's."""
        return self._address("mlflow")

    @property
    def environment(self) -> dict[str, str]:
        """What Airflow is told. Its result backend is its own database, as Airflow has it by default."""
        return {
            "DATABASE__SQL_ALCHEMY_CONN": self.airflow,
            "CORE__EXECUTOR": "CeleryExecutor",
            "CELERY__BROKER_URL": self.redis.url,
            "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(REDELIVERED_SECONDS),
            "CELERY__SYNC_PARALLELISM": "1",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(LOST_SECONDS),
        }

    @cached_property
    def databases(self) -> tuple[str, str]:
        """Their names."""
        return f"{self.name}_airflow", f"{self.name}_mlflow"

    def make(self) -> list[str]:
        """Make the databases that are absent; returns their names. Raises `StackError` where that is not allowed."""
        made = []
        with self._database(HOUSEKEEPING) as cursor:
            for name in self.databases:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
                    made.append(name)
        return made

    def drop(self) -> None:
        """Forget everything that is the stack's own: a demo starts from nothing."""
        with self._database(HOUSEKEEPING) as cursor:
            for name in self.databases:
                cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        with self.redis.asked() as client:
            if client.get(OWNER) == self.name.encode():
                client.flushdb()
                client.set(OWNER, self.name)

    @property
    def kept(self) -> str:
        """What outlives the processes, and where."""
        number = self.redis.options.get("db", "0")
        postgres = f"PostgreSQL {self.server.host}: {', '.join(self.databases)}"
        return f"{postgres}; Redis {self.redis.host}:{self.redis.port}: database {number}"

    def _address(self, kind: str) -> str:
        made = self.server.set(drivername=DRIVER, database=f"{self.name}_{kind}")
        return made.render_as_string(hide_password=False)

    @contextmanager
    def _database(self, name: str) -> Iterator[Any]:
        """A cursor, each statement a transaction; raises `StackError` with PostgreSQL's own words."""
        address = self.server.set(drivername="postgresql", database=name)
        try:
            with closing(
                psycopg2.connect(address.render_as_string(hide_password=False), connect_timeout=ANSWER_SECONDS)
            ) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    yield cursor
        except psycopg2.Error as error:
            where = f"{self.server.host}:{self.server.port or 5432}"
            raise StackError(
                f"a stack on team needs PostgreSQL at {where} (airflow.database), and a role there that may create "
                f"databases; found: {one_line(error)}"
            ) from error
