"""What an address of a database means to its driver."""

import sys
import time
from importlib.util import find_spec

import pytest
from pydantic import SecretStr

from jobs import warehouse
from jobs.errors import NotReady
from jobs.warehouse import adbc
from tests import emulators

LOGIN = "adbc.snowflake.sql.client_option.login_timeout"


def test_snowflake_is_waited_for_a_minute_unless_the_address_says_how_long() -> None:
    """An option would go over the address; without one the driver tries for five minutes."""
    assert adbc._snowflake("warehouse=w")[LOGIN] == "60s"
    assert LOGIN not in adbc._snowflake("warehouse=w&loginTimeout=90")


def test_an_account_of_snowflake_that_does_not_answer_is_named_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own driver, where that is installed, on a port that nobody listens on."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(emulators.DRIVERS)])
    if find_spec("adbc_driver_snowflake") is None:
        pytest.skip("needs the driver of Snowflake: python -m tests.emulators")
    monkeypatch.setattr(adbc, "LOGIN_SECONDS", 4)
    began = time.monotonic()
    url = SecretStr("snowflake://me:secret@127.0.0.1:9/SHOP/PUBLIC?account=nobody&protocol=http")
    refused = r"snowflake needs to answer; found: .*connection refused"
    with pytest.raises(NotReady, match=refused) as said, warehouse.connected(url):
        pass
    assert time.monotonic() - began < 60
    assert "secret" not in str(said.value)
