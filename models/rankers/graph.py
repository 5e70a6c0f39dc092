"""Arithmetic on arrays that are not there yet, written down as an ONNX graph: the third library a formula is run with.

`Traced` has the operators and methods that `models.rankers.network` asks of arrays, and this module is the `xp` its
functions take: the formula that learned (torch) and is judged (numpy) is the one that is written down.

Opset 18, IR 10 (https://onnx.ai/onnx/operators/): what any runtime of the last years reads. The first axis of what
comes in, its rows, is open; all other sizes are known while tracing.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from models.rankers.tensors import places

OPSET, IR = 18, 10
OPEN = -1
"""The size of the axis of rows."""
BLOCK = 64
"""Rows are scored in blocks of one size: a matrix product adds in another order where there are fewer. On some
processors the place in the block decides too, which moves a probability by less than 1e-6."""
ROWS = "rows"
A = TypeVar("A")


class Encoded(NamedTuple, Generic[A]):
    """What a ranker's graph is given of n rows: `numbers` (n, numeric) float64, NaN where unknown, and `codes` (n, c)
    int32, where its words and ids are found; arrays, or what stands for them in a graph.
    """

    numbers: A
    codes: A


class Said(NamedTuple):
    """What a graph says of n rows: P(click) and P(conversion | click), (n,), as `Predictions`.

    `further`: what the `heads` of further outcomes are told, P(click) before it is mapped (n,) and logits (n, heads).
    """

    click: "Traced"
    conversion: "Traced"
    further: "tuple[Traced, ...]" = ()


@dataclass
class Graph:
    """Nodes in the order they were asked for: the same questions make the same bytes."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    takes: list[Any] = field(default_factory=list)
    gives: list[Any] = field(default_factory=list)

    def given(self, name: str, dtype: Any, *shape: int, rows: str = ROWS) -> "Traced":
        """An input (rows, *shape); `rows`: another name for another number of them."""
        from onnx import helper

        of = np.dtype(dtype)
        self.takes.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(of), [rows, *shape]))
        return Traced(self, name, (OPEN, *shape), of)

    def constant(self, value: Any, dtype: Any = None) -> "Traced":
        """An array whose numbers are in the graph's own file."""
        from onnx import numpy_helper

        array = np.asarray(value, dtype=dtype)
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return Traced(self, name, array.shape, array.dtype)

    def stored(self, file: str, content: bytes) -> "dict[str, Traced]":
        """The arrays of a safetensors file, by name: the graph says where in `file` they lie, beside its own."""
        from onnx import TensorProto, helper

        found = {}
        for name, (dtype, shape, first, length) in places(content).items():
            where = {"location": file, "offset": str(first), "length": str(length)}
            tensor = TensorProto(name=f"{file}:{name}", dims=shape, data_type=helper.np_dtype_to_tensor_dtype(dtype))
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in where.items():
                tensor.external_data.add(key=key, value=value)
            self.constants.append(tensor)
            found[name] = Traced(self, tensor.name, tuple(shape), dtype)
        return found

    def node(self, kind: str, inputs: Sequence["Traced"], shape: Iterable[int], dtype: Any, **said: Any) -> "Traced":
        """What an operator makes of its inputs; `said`: its attributes."""
        from onnx import helper

        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [of.name for of in inputs], [name], **said))
        return Traced(self, name, tuple(shape), np.dtype(dtype))

    def give(self, name: str, of: "Traced") -> None:
        """An output (rows, ...) by this name."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [of.name], [name]))
        shape = [ROWS if size == OPEN else size for size in of.shape]
        self.gives.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(of.dtype), shape))

    def to_bytes(self) -> bytes:
        """The model as a file; arrays that nothing asks for are left out."""
        from onnx import helper

        used = {name for node in self.nodes for name in node.input}
        constants = [of for of in self.constants if of.name in used]
        graph = helper.make_graph(self.nodes, "ranker", self.takes, self.gives, constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="tidegate"
        )
        content: bytes = model.SerializeToString(deterministic=True)
        return content


@dataclass(frozen=True, eq=False)
class Traced:
    """An array to be: what is done to it is written down. Numbers beside it take its type."""

    graph: Graph
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    __array_ufunc__ = None
    """An array of numpy's on the left leaves the operator to the right."""

    def __add__(self, other: Any) -> "Traced":
        return self._with("Add", other)

    def __sub__(self, other: Any) -> "Traced":
        return self._with("Sub", other)

    def __rsub__(self, other: Any) -> "Traced":
        return self._like(other)._with("Sub", self)

    def __mul__(self, other: Any) -> "Traced":
        return self._with("Mul", other)

    def __truediv__(self, other: Any) -> "Traced":
        return self._with("Div", other)

    __radd__, __rmul__ = __add__, __mul__

    def equals(self, other: Any) -> "Traced":
        """True where it is `other`."""
        return self._with("Equal", other, np.bool_)

    def differs(self, other: Any) -> "Traced":
        """True where it is not `other`."""
        return self.equals(other)._alone("Not")

    def __matmul__(self, other: Any) -> "Traced":
        other = self._like(other)
        if len(other.shape) == 1:
            return self._node("MatMul", [other], self.shape[:-1])
        batch = _broadcast(self.shape[:-2], other.shape[:-2])
        return self._node("MatMul", [other], (*batch, self.shape[-2], other.shape[-1]))

    def clip(self, min: Any = None, max: Any = None) -> "Traced":
        """Nothing below `min` nor above `max`."""
        found = self if min is None else self._with("Max", min)
        return found if max is None else found._with("Min", max)

    def relu(self) -> "Traced":
        """Nothing below 0."""
        return self._alone("Relu")

    def sum(self, axis: int) -> "Traced":
        """Over one axis, which goes."""
        return self._over("ReduceSum", axis)

    def astype(self, dtype: Any) -> "Traced":
        """As another type."""
        from onnx import helper

        to = np.dtype(dtype)
        return self._node("Cast", [], self.shape, to, to=helper.np_dtype_to_tensor_dtype(to))

    def reshape(self, shape: Sequence[int]) -> "Traced":
        """One size may be -1, and the first too where rows are first before and after; where rows are elsewhere it is
        theirs.
        """
        wanted = [int(size) for size in shape]
        if wanted.count(OPEN) > 1 or (OPEN in wanted and OPEN not in self.shape):
            at = len(wanted) - 1 - wanted[::-1].index(OPEN)
            known = math.prod(size for place, size in enumerate(wanted) if place != at and size != OPEN)
            wanted[at] = math.prod(size for size in self.shape if size != OPEN) // known
        return self._node("Reshape", [self.graph.constant(wanted, np.int64)], wanted)

    def split(self, sizes: Sequence[int], axis: int) -> list["Traced"]:
        """In parts along an axis."""
        ends = np.cumsum([0, *sizes]).tolist()
        return [self._cut(axis, first, last) for first, last in pairwise(ends)]

    def __getitem__(self, at: Any) -> "Traced":
        """`[..., what is asked of the last axes]`: slices, one place of an axis, None for a new one."""
        _, *asked = at
        axis = len(self.shape) - sum(one is not None for one in asked)
        found, wanted = self, list(self.shape[:axis])
        for one in asked:
            if one is None:
                wanted.append(1)
                continue
            if one != slice(None):
                part = one if isinstance(one, slice) else slice(one, one + 1)
                found = found._cut(axis, *part.indices(self.shape[axis])[:2])
            if isinstance(one, slice):
                wanted.append(found.shape[axis])
            axis += 1
        return found.reshape(wanted)

    def _cut(self, axis: int, first: int, last: int) -> "Traced":
        axis %= len(self.shape)
        if (first, last) == (0, self.shape[axis]):
            return self
        ends = [self.graph.constant([place], np.int64) for place in (first, last, axis)]
        return self._node("Slice", ends, [*self.shape[:axis], last - first, *self.shape[axis + 1 :]])

    def _over(self, kind: str, axis: int) -> "Traced":
        axis %= len(self.shape)
        shape = (*self.shape[:axis], *self.shape[axis + 1 :])
        return self._node(kind, [self.graph.constant([axis], np.int64)], shape, keepdims=0)

    def _alone(self, kind: str, dtype: Any = None) -> "Traced":
        return self._node(kind, [], self.shape, dtype)

    def _with(self, kind: str, other: Any, dtype: Any = None) -> "Traced":
        other = self._like(other)
        return self._node(kind, [other], _broadcast(self.shape, other.shape), dtype)

    def _like(self, other: Any) -> "Traced":
        return other if isinstance(other, Traced) else self.graph.constant(other, self.dtype)

    def _node(
        self, kind: str, others: "Sequence[Traced]", shape: Iterable[int], dtype: Any = None, **said: Any
    ) -> "Traced":
        return self.graph.node(kind, [self, *others], shape, dtype or self.dtype, **said)


# -- what `numpy` and `torch` have as functions ---------------------------------------------------------------------
def concatenate(arrays: Sequence[Traced], axis: int) -> Traced:
    """Along an axis whose sizes are known."""
    first, axis = arrays[0], axis % len(arrays[0].shape)
    size = sum(of.shape[axis] for of in arrays)
    shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
    return first.graph.node("Concat", arrays, shape, first.dtype, axis=axis)


def swapaxes(x: Traced, one: int, other: int) -> Traced:
    """Two axes in each other's place."""
    order = list(range(len(x.shape)))
    order[one], order[other] = order[other], order[one]
    return x.graph.node("Transpose", [x], [x.shape[at] for at in order], x.dtype, perm=order)


def amax(x: Traced, axis: int) -> Traced:
    """The largest over one axis, which goes."""
    return x._over("ReduceMax", axis)


def exp(x: Traced) -> Traced:
    """e to the power of x."""
    return x._alone("Exp")


def log(x: Traced) -> Traced:
    """The natural logarithm."""
    return x._alone("Log")


def isnan(x: Traced) -> Traced:
    """True where it is no number."""
    return x._alone("IsNaN", np.bool_)


def where(condition: Traced, one: Any, other: Any) -> Traced:
    """`one` where the condition holds; one of both at least is traced."""
    typed = one if isinstance(one, Traced) else other
    yes, no = typed._like(one), typed._like(other)
    shape = _broadcast(condition.shape, _broadcast(yes.shape, no.shape))
    return condition.graph.node("Where", [condition, yes, no], shape, typed.dtype)


def take(table: Traced, at: Traced) -> Traced:
    """Rows of a table."""
    return table.graph.node("Gather", [table, at], (*at.shape, *table.shape[1:]), table.dtype)


def full_like(x: Traced, value: float) -> Traced:
    """Of its shape, one value everywhere."""
    return x * 0.0 + value


def sigmoid(x: Traced) -> Traced:
    """1 / (1 + exp(-x)), without overflow."""
    return x._alone("Sigmoid")


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    filled = (*[1] * (len(longer) - len(shorter)), *shorter)
    return tuple(a if b == 1 else b for a, b in zip(longer, filled, strict=True))
