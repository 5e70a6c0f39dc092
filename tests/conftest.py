"""What every test process needs."""

import sys

from hypothesis import settings

# The same examples in every run, so that a change that is tested fails for its own reasons; others are looked for by
# `pytest --hypothesis-profile=explore`.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile("repeatable")

# A pytest-xdist worker is a `python -c`: importing pyspark's connect client there (Great Expectations does) takes it
# for a doctest run and ends the process.
_main = sys.modules["__main__"]
if not hasattr(_main, "__file__"):
    _main.__file__ = __file__
