"""A user out of the online store: of both feature days, whichever store it is, and out of its file's free pages."""

import sqlite3
from contextlib import closing

from jobs.config import Config
from jobs.errors import NotReady
from jobs.features import online
from jobs.features.told import ATTRIBUTES

WAIT_SECONDS = 10.0
KEY = ("user_id",)


def erase(config: Config, user: str) -> int:
    """Remove a user from the online store; returns how many keys went. The endpoint knows the user as anybody new.

    Raises `NotReady` where Redis does not answer, or where readers of SQLite never let go.
    """
    slots = [slot for slot in online.SLOTS if online.registry_of(config, slot).is_file()]
    for slot in slots:
        # It says that the store holds the user's attributes.
        for told in online.registry_of(config, slot).parent.glob(f"{ATTRIBUTES}.*"):
            told.unlink(missing_ok=True)
    if config.features.online_store == "redis":
        with online.reached(config):
            return sum(_from_redis(config, slot, user) for slot in slots)
    return sum(_from_sqlite(config, slot, user) for slot in slots)


def _key(user: str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=list(KEY), entity_values=[Value(string_val=user)])
    return bytes(serialize_entity_key(key, entity_key_serialization_version=online.KEYS))


def _from_redis(config: Config, slot: str, user: str) -> int:
    store = online.store_of(config, slot, online.READ_SECONDS)
    client = store._get_provider().online_store._get_client(store.config.online_store)
    return int(client.delete(_key(user) + slot.encode()))


def _from_sqlite(config: Config, slot: str, user: str) -> int:
    path = online.registry_of(config, slot).with_name("online.db")
    if not path.is_file():
        return 0
    online.import_feast()
    key, gone = _key(user), 0
    try:
        with closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as connection:
            for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
                columns = {column[1] for column in connection.execute(f'pragma table_info("{table}")')}
                if "entity_key" in columns:
                    gone += connection.execute(f'delete from "{table}" where entity_key = ?', (key,)).rowcount > 0
            connection.commit()
            # What is deleted stays in free pages and in the log of writes until both are made anew.
            connection.execute("vacuum")
            (busy, _, _) = connection.execute("pragma wal_checkpoint(truncate)").fetchone()
    except sqlite3.OperationalError as error:
        raise NotReady(f"{path} needs to be free for a moment; found: {error}; run forget again") from error
    if busy:
        raise NotReady(f"{path} needs its readers to let go of what was deleted; they did not: run forget again")
    return gone
