"""Regular expressions of Python's `re`, found in whole columns of texts.

Arrow's own (RE2) are ten times faster, and mean something else in places: `$` does not match before a last line break,
`\\d` is ASCII's, flags and look-around differ. So a pattern is written anew for RE2 where it is made of nothing but
characters, sets of them, repetitions, alternatives and anchors, whose meaning is one; any other is asked of `re`.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from re import _constants as of  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.validate import coded

MOST_REPETITIONS = 100
"""RE2 takes up to a thousand, nested ones multiplied, and its memory grows with them."""


def found_in(pattern: str, texts: pa.Array) -> NDArray[np.bool_]:
    """(n,) whether the pattern is found in each text; no in null."""
    as_re2 = rewritten(pattern)
    if as_re2 is not None:
        with suppress(pa.ArrowInvalid):  # too large for RE2
            return np.asarray(pc.fill_null(pc.match_substring_regex(texts, as_re2), False))
    search = re.compile(pattern).search
    distinct = coded.codes(texts)
    found = np.array([*(search(text) is not None for text in distinct.values.to_pylist()), False])
    return np.asarray(found[distinct.of])


@lru_cache
def rewritten(pattern: str) -> str | None:
    """The pattern as RE2 writes it; None where the two may differ."""
    parsed = _parser.parse(pattern)
    if parsed.state.flags != re.UNICODE.value:
        return None
    try:
        return _sequence(list(parsed), last=True)
    except _Differs:
        return None


class _Differs(Exception):
    """RE2 has no such thing, or means something else by it."""


def _sequence(parts: Iterable[tuple[Any, Any]], *, last: bool) -> str:
    """What is matched one after the other; `last` says that the pattern ends with it."""
    parts = list(parts)
    return "".join(_one(name, about, last=last and n == len(parts) - 1) for n, (name, about) in enumerate(parts))


def _one(name: Any, about: Any, *, last: bool) -> str:
    if name is of.LITERAL:
        return _character(about)
    if name is of.IN:
        return _set(about)
    if name is of.AT and about is of.AT_BEGINNING:
        return r"\A"
    if name is of.AT and about is of.AT_END and last:
        return r"\n?\z"
    if name is of.BRANCH:
        return "(?:" + "|".join(_sequence(branch, last=last) for branch in about[1]) + ")"
    if name is of.MAX_REPEAT:
        low, high, what = about
        if low > MOST_REPETITIONS or (high is not of.MAXREPEAT and high > MOST_REPETITIONS):
            raise _Differs
        inside = _sequence(what, last=False)
        return f"(?:{inside}){{{low},{'' if high is of.MAXREPEAT else high}}}"
    if name is of.SUBPATTERN and not about[1] and not about[2]:
        return f"(?:{_sequence(about[3], last=last)})"
    raise _Differs


def _set(parts: Iterable[tuple[Any, Any]]) -> str:
    """A set of characters and ranges of them; what is not in a set may be a line break in both."""
    found = ""
    for name, about in parts:
        if name is of.NEGATE:
            found += "^"
        elif name is of.LITERAL:
            found += _character(about)
        elif name is of.RANGE:
            found += f"{_character(about[0])}-{_character(about[1])}"
        else:
            raise _Differs
    return f"[{found}]"


def _character(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        raise _Differs  # no text has half a character
    return rf"\x{{{code:x}}}"
