"""What every test process needs."""

import sys

# A pytest-xdist worker is a `python -c`: importing pyspark's connect client there (Great Expectations does) takes it
# for a doctest run and ends the process.
_main = sys.modules["__main__"]
if not hasattr(_main, "__file__"):
    _main.__file__ = __file__
