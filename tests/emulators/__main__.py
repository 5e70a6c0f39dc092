"""`python -m tests.emulators`: install them."""

from tests.emulators import prepare

prepare()
