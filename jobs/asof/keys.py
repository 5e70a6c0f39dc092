"""Keys of two tables as integers: equal keys have equal codes, and each text is read once, in order.

A dictionary of strings misses the cache on every row. Here a row's key is a few words of 64 bits, mixed into a
fingerprint by which its code is found; then the words themselves are compared, so no two keys ever share a code.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types
from numpy.typing import NDArray

Indices = NDArray[np.int64]
"""One row number of the right table per left row, -1 where there is none."""
Words = NDArray[np.uint64]
ABSENT = -1
# Where a process can be bound to some of the cores (Linux), those; elsewhere all.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BLOCK = 1 << 15
"""Rows whose words are held at once: they stay in the cache."""
MIXED = 1 << 13
"""Texts whose fingerprints are made at once, likewise."""
LONGEST = 64
"""Bytes of a text that is compared word by word; columns with longer ones go through a dictionary."""
WORD, LAST_BYTE = 8, np.uint64(56)
"""Bytes of a word; the bits before its last one."""
ROOM = 2
"""Places of the table that fingerprints are looked up in, at least so many for each."""
MULTIPLIER, HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
"""2^64 over the golden ratio, odd; half the bits of a word."""
LAST = np.uint64(2**64 - 1)
MASKS = np.array([2 ** (8 * size) - 1 for size in range(WORD + 1)], np.uint64)
"""What is left of a word of which so many bytes belong to the text."""


def codes(left: pa.Table, right: pa.Table, keys: Sequence[str]) -> tuple[Indices, Indices]:
    """Left's and right's keys as dense integers, -1 where a part is null or (right) no left row has that key."""
    if not len(left) or not len(right):
        return np.full(len(left), ABSENT), np.full(len(right), ABSENT)
    columns = [_comparable(left.column(key), right.column(key)) for key in keys]
    some, others = (pa.table({key: of[side] for key, of in zip(keys, columns, strict=True)}) for side in (0, 1))
    counts, known = [count for _, _, count in columns], _valid(some)
    if not known.any():
        return np.full(len(left), ABSENT), np.full(len(right), ABSENT)
    with ThreadPoolExecutor(THREADS) as pool:
        index = _Index.of(some, counts, pool)
        left_code = index.codes(some, counts, pool)
        if (left_code[known] == ABSENT).any():
            # Two keys with one fingerprint.
            return _by_dictionaries(some, others)
        return left_code, index.codes(others, counts, pool)


def coded(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[Indices, Indices]:
    """Left values as integers in order of appearance, right ones by the same dictionary; -1: null or not in it."""
    found = left.combine_chunks().dictionary_encode()
    return _integers(found.indices), _integers(pc.index_in(right, found.dictionary, skip_nulls=True))


def encoded(column: pa.ChunkedArray) -> Indices:
    """Values as dense integers in order of appearance, -1 for null."""
    return _integers(column.combine_chunks().dictionary_encode().indices)


def fingerprints(texts: pa.StringArray) -> Words:
    """(n,) each text's bytes mixed into 64 bits, 0 for null: equal texts have equal ones, others hardly ever."""
    found = np.zeros(len(texts), np.uint64)
    for start in range(0, len(texts), MIXED):
        block = _Texts.of(texts.slice(start, MIXED))
        mixed, least = block.lengths.astype(np.uint64), int(block.lengths.min())
        begins = block.begins.astype(np.int64)  # what indexing would make of them for each word
        for at in range(0, int(block.lengths.max()), WORD):
            if at + WORD <= least:
                mixed = _mixed(mixed, block.memory[begins + at])
            else:
                longer = np.flatnonzero(block.lengths > at)
                mixed[longer] = _mixed(mixed[longer], block.word(at // WORD, longer))
        found[start : start + MIXED] = mixed
    if texts.null_count:
        found[~np.asarray(texts.is_valid())] = 0  # whatever bytes lie below a null
    return found


def hashes_of(texts: pa.ChunkedArray) -> Words:
    """The `fingerprints` of a column."""
    return np.concatenate([np.zeros(0, np.uint64), *map(fingerprints, texts.cast(pa.string()).chunks)])


def ascending(words: Words, pool: ThreadPoolExecutor) -> Words:
    """Sorted: a part of them on each thread, then the parts, which are in order already, by merging."""
    parts = list(pool.map(np.sort, np.array_split(words, THREADS)))
    return np.sort(np.concatenate(parts), kind="stable")


@dataclass(frozen=True)
class _Texts:
    """Texts as words: `memory` reads eight bytes from any place on; `begins` (n,) and `lengths` (n,) are in bytes."""

    memory: Words
    begins: NDArray[np.int32]
    lengths: NDArray[np.int32]

    @classmethod
    def of(cls, texts: pa.StringArray) -> "_Texts":
        """Of at least one text, where it lies; the last of a buffer are copied, so that words may end beyond them."""
        offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
        if last + WORD > len(data):
            data = np.append(data[first:last], np.zeros(WORD, np.uint8))
        else:
            data = data[first : last + WORD]
        memory = np.ndarray((last - first + 1,), "<u8", data, strides=(1,))
        return cls(memory, offsets[:-1] - offsets[0], np.diff(offsets))

    def word(self, number: int, rows: Indices) -> Words:
        """The bytes from `8 * number` on of the texts of some rows, which are longer; zeros behind their ends."""
        left = self.lengths[rows] - WORD * number
        return np.asarray(self.memory[self.begins[rows] + WORD * number] & MASKS[np.minimum(left, WORD)])

    def words(self, count: int) -> Iterator[Words]:
        """`count` words of each text, which is shorter than they are: the last one's last byte is its length."""
        rows, size = len(self.lengths), int(self.lengths[0])
        alike = bool((self.lengths == size).all())
        for number in range(count):
            if alike and size > WORD * number:
                # Of one length they lie in steps, which is the quickest way to read them.
                word = self.memory[WORD * number :: size][:rows] & MASKS[min(size - WORD * number, WORD)]
            else:
                word, some = np.zeros(rows, np.uint64), np.flatnonzero(self.lengths > WORD * number)
                word[some] = self.word(number, some)
            if number == count - 1:
                word |= self.lengths.astype(np.uint64) << LAST_BYTE
            yield word


@dataclass(frozen=True)
class _Index:
    """Distinct keys by their fingerprints, sorted and ended by `LAST`: a key's code is its place.

    `starts` says where the fingerprints with the same first bits begin; `words` (keys,) each are those of the keys.
    """

    prints: Words
    starts: NDArray[np.int32]
    shift: np.uint64
    words: Sequence[Words]

    @classmethod
    def of(cls, table: pa.Table, counts: Sequence[int], pool: ThreadPoolExecutor) -> "_Index":
        """Of all keys of a table, one row of each fingerprint as its example."""
        every = np.concatenate(list(pool.map(lambda batch: _print(list(_words(batch, counts))), _blocks(table))))
        rows = np.flatnonzero(_valid(table))
        prints = every[rows]
        distinct = ascending(prints, pool)
        distinct = distinct[np.append(True, distinct[1:] != distinct[:-1])]
        bits = (ROOM * len(distinct)).bit_length()
        shift = np.uint64(64 - bits)
        counted = np.bincount((distinct >> shift).view(np.int64), minlength=1 << bits)
        starts = (np.cumsum(counted) - counted).astype(np.int32)
        index = cls(np.append(distinct, LAST), starts, shift, [])
        example = np.empty(len(distinct), np.int64)
        example[np.concatenate(list(pool.map(index.place, np.array_split(prints, 1 + len(prints) // BLOCK))))] = rows
        kept = [list(_words(batch, counts)) for batch in _blocks(table.take(pa.array(example)))]
        return replace(index, words=[np.concatenate(parts) for parts in zip(*kept, strict=True)])

    def codes(self, table: pa.Table, counts: Sequence[int], pool: ThreadPoolExecutor) -> Indices:
        """(n,) the code of each row's key, -1 where none of these keys is the same or a part is null."""

        found, blocks = np.empty(len(table), np.int64), _blocks(table)

        def find(batch: pa.RecordBatch, end: int) -> None:
            words = list(_words(batch, counts))
            code = self.place(_print(words))
            code[~_valid(batch)] = ABSENT
            some = np.flatnonzero(code != ABSENT)
            same, own = np.ones(len(some), bool), code[some]
            # With one fingerprint and all other words the same the first is the same, see `_mixed`.
            for mine, theirs in zip(self.words[1:], words[1:], strict=True):
                same &= mine[own] == theirs[some]
            code[some[~same]] = ABSENT
            found[end - len(batch) : end] = code

        list(pool.map(find, blocks, np.cumsum([len(batch) for batch in blocks])))
        return found

    def place(self, prints: Words) -> Indices:
        """(n,) where each fingerprint is among these, -1 where it is not."""
        at = self.starts[(prints >> self.shift).view(np.int64)].astype(np.int64)
        there = self.prints[at]
        behind = np.flatnonzero(there < prints)
        while len(behind):
            at[behind] += 1
            there[behind] = self.prints[at[behind]]
            behind = behind[there[behind] < prints[behind]]
        at[(there != prints) | (at == len(self.prints) - 1)] = ABSENT
        return at


def _comparable(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray, int]:
    """Both columns as texts of so many words at most, or as integers: 0 words."""
    if types.is_signed_integer(left.type) and types.is_signed_integer(right.type):
        return left.cast(pa.int64()), right.cast(pa.int64()), 0
    if left.type == right.type == pa.string():
        longest = max(pc.max(pc.binary_length(column)).as_py() or 0 for column in (left, right))
        if longest <= LONGEST:
            return left, right, longest // WORD + 1
    mine, theirs = (pa.chunked_array([pa.array(of, mask=of == ABSENT)]) for of in coded(left, right))
    return mine, theirs, 0


def _blocks(table: pa.Table) -> list[pa.RecordBatch]:
    return [batch for batch in table.to_batches(max_chunksize=BLOCK) if len(batch)]


def _words(batch: pa.RecordBatch, counts: Sequence[int]) -> Iterator[Words]:
    """The words of each row's key, whatever a null's; (n,) each, as many for every batch."""
    for column, count in zip(batch.columns, counts, strict=True):
        if count:
            yield from _Texts.of(column).words(count)
        else:
            yield pc.fill_null(column, 0).to_numpy(zero_copy_only=False).view(np.uint64)


def _print(words: Sequence[Words]) -> Words:
    mixed = np.zeros(len(words[0]), np.uint64)
    for word in words:
        mixed = _mixed(mixed, word)
    return mixed


def _mixed(before: Words, word: Words) -> Words:
    """Another word mixed in, by steps that can be undone: of `before`, `word` and this two tell the third."""
    mixed = (before ^ word) * MULTIPLIER
    mixed ^= mixed >> HALF
    return mixed


def _valid(rows: pa.Table | pa.RecordBatch) -> NDArray[np.bool_]:
    """(n,) whether no part of the key is null."""
    valid = np.ones(len(rows), bool)
    for column in rows.columns:
        if column.null_count:
            valid &= np.asarray(column.is_valid(), dtype=bool)
    return valid


def _by_dictionaries(left: pa.Table, right: pa.Table) -> tuple[Indices, Indices]:
    """`codes` of columns one by one: two at a time become one."""
    left_code, right_code = coded(left.column(0), right.column(0))
    for mine, theirs in zip(left.columns[1:], right.columns[1:], strict=True):
        left_part, right_part = coded(mine, theirs)
        size = int(left_part.max(initial=0)) + 1
        some = np.flatnonzero((right_code != ABSENT) & (right_part != ABSENT))
        known = (left_code != ABSENT) & (left_part != ABSENT)
        left_pairs = pa.chunked_array([pa.array(left_code * size + left_part, mask=~known)])
        right_pairs = pa.chunked_array([pa.array(right_code[some] * size + right_part[some])])
        left_code, found = coded(left_pairs, right_pairs)
        right_code = np.full(len(right_code), ABSENT)
        right_code[some] = found
    return left_code, right_code


def _integers(column: pa.Array | pa.ChunkedArray) -> Indices:
    """Row numbers, -1 for null."""
    return np.asarray(pc.fill_null(column, ABSENT).to_numpy(zero_copy_only=False), dtype=np.int64)
