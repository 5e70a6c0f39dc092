"""MurmurHash3 (x64, 128 bits) of whole columns, as Apache DataSketches takes it of one value.

Public domain algorithm by Austin Appleby; `tests/jobs/validate/test_validate_coded.py` holds it to the library's.
"""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SEED = 9001
"""DataSketches' own."""
AT_ONCE = 1 << 14
"""So many values at a time: what is computed of them stays in the processor's cache."""
LONGEST = 512
"""Bytes of the longest text that is hashed."""
Words: TypeAlias = NDArray[np.uint64]
Pair: TypeAlias = tuple[Words, Words]

C1, C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
KEPT = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""The first n bytes of a word."""


def of_texts(texts: pa.Array) -> Pair:
    """Both halves of the hash of each text's UTF-8; zeros where it is null, empty or more than `LONGEST` bytes."""
    return _joined(_of_texts(texts), len(texts))


def of_words(words: Words) -> Pair:
    """Both halves of the hash of each eight bytes."""
    parts = (_mixed([words[at : at + AT_ONCE]], np.uint64(8)) for at in range(0, len(words), AT_ONCE))
    return _joined(parts, len(words))


def _joined(parts: Iterator[Pair], n: int) -> Pair:
    first, second, at = np.zeros(n, np.uint64), np.zeros(n, np.uint64), 0
    for one, other in parts:
        first[at : at + len(one)], second[at : at + len(one)] = one, other
        at += len(one)
    return first, second


def _of_texts(texts: pa.Array) -> Iterator[Pair]:
    _, offsets, data = texts.buffers()
    n = len(texts)
    ends = np.zeros(1, np.int64)
    if n:
        ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + n + 1].astype(np.int64)
    # Eight bytes from any place on: the last texts have some of nobody's after them.
    held = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    padded = np.concatenate([held, np.zeros(16, np.uint8)])
    words = np.ndarray((len(padded) - 7,), np.uint64, padded, strides=(1,))
    there = np.asarray(texts.is_valid()) if texts.null_count else None
    for at in range(0, n, AT_ONCE):
        some = slice(at, min(n, at + AT_ONCE))
        starts = ends[some]
        lengths = ends[at + 1 : some.stop + 1] - starts
        first, second = _of_lengths(words, starts, lengths)
        if there is not None:
            first[~there[some]] = second[~there[some]] = 0
        yield first, second


def _of_lengths(words: Words, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Pair:
    """Of texts that start at some bytes and have some lengths: those of up to 16 bytes at once, then longer ones."""
    pairs = -(-lengths // 16)
    most = min(int(pairs.max(initial=0)), LONGEST // 16)
    first, second = np.zeros(len(starts), np.uint64), np.zeros(len(starts), np.uint64)
    for n in range(1, most + 1):
        rows = np.flatnonzero(pairs == n)
        if len(rows):
            first[rows], second[rows] = _mixed(_words(words, starts[rows], lengths[rows], n), lengths[rows])
    return first, second


def _words(words: Words, starts: NDArray[np.int64], lengths: NDArray[np.int64], pairs: int) -> list[Words]:
    """The words of texts of so many times two, zeros behind each text's end."""
    found = []
    for n in range(2 * pairs):
        left = np.clip(lengths - 8 * n, 0, 8)
        at = np.minimum(starts + 8 * n, len(words) - 1)
        found.append(words[at] & KEPT[left])
    return found


def _mixed(words: list[Words], lengths: NDArray[np.int64] | np.uint64) -> Pair:
    """The hash of values that have these words, two at a time; missing last ones are zeros, which change nothing."""
    n = len(words[0]) if words else np.size(lengths)
    size = np.asarray(lengths).astype(np.uint64)
    whole = size // np.uint64(16)
    h1, h2 = np.full(n, SEED, np.uint64), np.full(n, SEED, np.uint64)
    for place in range(0, len(words), 2):
        k1 = _turned(words[place] * C1, 31) * C2
        k2 = _turned(words[place + 1] * C2, 33) * C1 if place + 1 < len(words) else np.uint64(0)
        full = np.broadcast_to(whole > np.uint64(place // 2), (n,))
        h1, before, h2 = h1 ^ k1, h2, h2 ^ k2
        if full.any():
            a1 = (_turned(h1, 27) + before) * np.uint64(5) + np.uint64(0x52DCE729)
            a2 = (_turned(h2, 31) + a1) * np.uint64(5) + np.uint64(0x38495AB5)
            h1, h2 = np.where(full, a1, h1), np.where(full, a2, h2)
    h1, h2 = h1 ^ size, h2 ^ size
    h1 = h1 + h2
    h2 = h2 + h1
    h1, h2 = _final(h1), _final(h2)
    h1 = h1 + h2
    return h1, h2 + h1


def _turned(word: Words, by: int) -> Words:
    return (word << np.uint64(by)) | (word >> np.uint64(64 - by))


def _final(word: Words) -> Words:
    word = (word ^ (word >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    word = (word ^ (word >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return word ^ (word >> np.uint64(33))
