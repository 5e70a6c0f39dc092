"""Minibatches through the network: Adam on its weights, row-wise AdaGrad on the rows that a batch looked up.

The embedding table lies outside autograd: a batch's distinct rows are taken out, learned from and put back, so that a
row nobody looked up keeps its bytes (no momentum, no decay) and costs nothing. Weights and table are on the device that
the settings name. Several processes share out the rows (`models.rankers.shards`): what is added up is the gradient of
the weights and of the batch's distinct rows, which all of them are told, and so in one message.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.rankers.batches import Batch
from models.rankers.checkpoints import Kept, Progress
from models.rankers.devices import device_of
from models.rankers.embeddings import Embeddings
from models.rankers.gradients import looked_gradient, summed
from models.rankers.group import Group
from models.rankers.heads import MOST, Head
from models.rankers.levels import risen
from models.rankers.network import FIXED, Arrays, inputs, logits
from models.rankers.protocol import Checkpoints, Diverged, Floats, Room
from models.rankers.shards import Begun, Drawn, Fit, Shard, dealt, received

log = logging.getLogger(__name__)
EPSILON = 1e-8
ALMOST_ONE = 1.0 - 1e-6
"""A conversion is never surer than this in the loss, whose logarithm would else be infinite."""
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What Adam remembers of a weight."""
ADVICE = "a smaller learning_rate may help"
THREADS = 1
"""A batch is too small to share: two threads spend their time waiting for each other, on a busy machine most of it."""
EVERY, WRITTEN_A_STEP = 250, 100_000
"""A checkpoint every so many steps, or one step for each so many numbers of the table."""
WEIGHT = "weight."
"""What begins the names of weights beside their moments."""
REPORTS = 10
"""Lines of progress an epoch."""
WATCHED = 8_192
"""Held-out rows, spread evenly, whose log-loss each of those lines tells: a point costs a tenth of a second."""


class Learner:
    """A network and a table that learn; begins where it is told to."""

    def __init__(self, begun: Begun) -> None:
        """`memory`: Adam's moments as `<weight>.<moment>`, empty at first; `fields`: that of each column of codes.

        `table` is float32 and may be learned in place. `goes_on`: a warm start of a network that has learned
        conversions. `heads`: its further tasks. Raises `NoDevice`.
        """
        self._begun = begun
        self._table, self._settings, self._goes_on = begun.table, begun.settings, begun.goes_on
        self._heads, table = begun.heads, begun.table
        self._device, self._group = device_of(begun.settings.device), Group.joined()
        self._rows, self._sums = self._tensor(table.rows), self._tensor(table.accumulators)
        self._slot = np.zeros(len(table.rows), dtype=np.int64)
        self._unknown = np.array([table.unknown(field) for field in begun.fields], dtype=np.int32)
        self._rest = np.array([table.rest(field) for field in begun.fields], dtype=np.int32)
        self.weights = {
            name: torch.tensor(value, device=self._device, requires_grad=name not in FIXED)
            for name, value in begun.weights.items()
        }
        self._learned = [weight for name, weight in self.weights.items() if name not in FIXED]
        self._adam = torch.optim.Adam(self._learned, lr=begun.settings.learning_rate, fused=True)
        for name, weight in self.weights.items():
            if f"{name}.step" in begun.memory:
                self._adam.state[weight] = {m: self._copy(begun.memory[f"{name}.{m}"]) for m in MOMENTS}

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        """An array where learning happens: itself on the processor, a copy on another device."""
        return torch.from_numpy(array).to(self._device)

    def _copy(self, array: NDArray[Any]) -> torch.Tensor:
        return torch.tensor(array, device=self._device)

    def learn(
        self,
        rows: Batch,
        epochs: int,
        listed: int,
        rng: np.random.Generator,
        held_out: Batch | None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """So many passes in new orders; after each but the first, back to the last one if `held_out` liked it more. In
        the end the intercepts are set so that as much is promised of all rows as came of them. The log-loss of clicks
        of some of `held_out` is logged on the way, where anybody listens: it changes nothing.

        Raises `Diverged` where the loss is not finite.
        """
        kept = None if checkpoints is None else Kept(checkpoints, self._identity(rows, epochs, rng, held_out))
        moved, at = ({}, Progress()) if kept is None else kept.found(rng)
        arrays = [(array.dtype.str, array.shape[1:]) for array in rows.arrays]
        fit = Fit(self._begun, len(rows), arrays, epochs, listed, rng, moved, at, held_out is not None)
        self._group.told(fit)
        with _on_threads(THREADS):
            self._passes(fit, dealt(rows, self._group), held_out, kept)
            if epochs:
                self._level(rows, listed)

    def follow(self, fit: Fit, rows: Shard) -> None:
        """The same passes in another process than the first, which alone knows what comes of them in the end."""
        with _on_threads(THREADS):
            self._passes(fit, rows, None, None)

    def _passes(self, fit: Fit, rows: Shard, held_out: Batch | None, kept: Kept | None) -> None:
        at = fit.at
        if fit.moved:
            self._restore(fit.moved)
            log.info("network: goes on from epoch %d, step %d", at.epoch + 1, at.step)
        if self._device.type != "cpu" or self._group.size > 1:
            log.info("network: learns on %s, %d processes together", self._device, self._group.size)
        while at.epoch < fit.epochs:
            if at.step == 0 and held_out is not None:
                at.before = self._copied() if at.epoch else None
            self._pass(rows, at, fit, kept, _watched(held_out))
            at.epoch, at.step = at.epoch + 1, 0
            if fit.watched and fit.epochs > 1 and self._group.told(self._worse(held_out, at, fit.listed)):
                break

    def _worse(self, held_out: Batch | None, at: Progress, listed: int) -> bool:
        """Whether held-out rows liked the network more before the last pass, to which it then goes back."""
        if held_out is None:  # the first process knows
            return False
        found = self.log_loss(held_out, listed)
        log.info("network: epoch %d, held-out log-loss %.5f", at.epoch, found)
        if found >= at.best and at.before is not None:
            self._restore(at.before)
            return True
        at.best = found
        return False

    def _pass(self, rows: Shard, at: Progress, fit: Fit, kept: Kept | None, watched: Batch | None) -> None:
        n, size = len(rows), self._settings.batch_size
        steps = -(-n // size)
        shown, losses = max(1, steps // REPORTS), []
        for batch in self.batches(rows, fit.rng, at):
            # Falls to nothing at the end of the fit: what the last batches happened to hold must not show.
            self._adam.param_groups[0]["lr"] = self._settings.learning_rate * (
                1 - (at.epoch * steps + at.step) / (fit.epochs * steps)
            )
            losses.append(self.step(batch, fit.listed))
            if not np.isfinite(losses[-1]):
                raise Diverged(
                    f"learning needs a finite loss; found {losses[-1]} in epoch {at.epoch + 1} after {at.step * size} "
                    f"rows: {ADVICE}"
                )
            at.step += 1
            if at.step % shown == 0 or at.step == steps:
                self._report(at, min(n, at.step * size), n, float(np.mean(losses[-shown:])), watched, fit.listed)
            if kept is not None and at.step < steps and at.step % self._every() == 0:
                kept.keep(self._copied(), at, fit.rng)

    def _report(self, at: Progress, done: int, n: int, loss: float, watched: Batch | None, listed: int) -> None:
        """A line of progress and a point of the curve."""
        if not log.isEnabledFor(logging.INFO):
            return
        said = {"epoch": at.epoch + 1, "rows": done, "loss": loss}
        words = f"loss {loss:.5f}"
        if watched is not None:
            said["validation_log_loss"] = self.log_loss(watched, listed)
            words += f", of clicks held out {said['validation_log_loss']:.5f}"
        log.info("network: epoch %d, %d of %d rows, %s", at.epoch + 1, done, n, words, extra=said)

    def _every(self) -> int:
        """Steps between checkpoints: more of them where there is more to write."""
        return max(EVERY, self._table.rows.size // WRITTEN_A_STEP)

    def _identity(self, rows: Batch, epochs: int, rng: np.random.Generator, held_out: Batch | None) -> str:
        """The sha256 of everything that decides what a fit comes to."""
        said = {"settings": self._settings.model_dump(mode="json"), "epochs": epochs, "goes_on": self._goes_on}
        said["heads"] = [asdict(head) for head in self._heads]
        said["processes"] = self._group.size
        found = hashlib.sha256(json.dumps([said, rng.bit_generator.state], sort_keys=True).encode())
        for array in (*self._copied().values(), *rows.arrays, *(held_out.arrays if held_out else ())):
            found.update(f"{array.dtype}{array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def _level(self, rows: Batch, listed: int) -> None:
        """See `models.rankers.levels`."""
        found = self.scored(rows, listed)
        if not all(np.isfinite(of).all() for of in found):  # of the last step no loss has told
            raise Diverged(f"learning needs finite scores in the end; found others: {ADVICE}")
        steps = risen(found, rows, self._heads, self._goes_on)
        with torch.no_grad():
            self.weights["out.bias"] += torch.tensor(steps, dtype=torch.float32, device=self._device)

    def batches(self, rows: Shard, rng: np.random.Generator, at: Progress) -> Iterator[Drawn]:
        """All rows in a new order, values hidden now and then so that the rest's row learns what to say of new ones.

        From the step on that `at` says, as if those before it had been drawn.
        """
        now = rng.bit_generator.state
        if at.step:
            rng.bit_generator.state = at.drawn_from
        else:
            at.drawn_from = now
        order = rng.permutation(len(rows))
        if at.step:
            rng.bit_generator.state = now
        for first in range(at.step * self._settings.batch_size, len(rows), self._settings.batch_size):
            batch = rows.drawn(order[first : first + self._settings.batch_size])
            codes = batch.rows.codes
            hidden = rng.random((batch.n, codes.shape[1]), dtype=np.float32)[batch.places] < self._settings.id_dropout
            np.copyto(codes, self._rest, where=hidden & (codes != self._unknown))
            yield batch

    def step(self, batch: Drawn, listed: int) -> float:
        """One batch learned from; returns its weighted mean loss before, in nats, summed over the tasks.

        By all processes of a group together, each from the rows that it holds; all are told which rows of the table
        the batch looks up.
        """
        mine, whole = batch.rows, np.zeros((batch.n, batch.rows.codes.shape[1]), np.int32)
        whole[batch.places] = mine.codes
        self._group.add_up(torch.from_numpy(whole))
        at, slots = self._distinct(whole)
        looked, present = self._looked(mine, listed)
        x = inputs(torch, self._tensor(mine.numbers), looked, present).requires_grad_()
        loss = self._loss(mine, logits(torch, self.weights, x), batch.n)
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        found, gradient = loss.detach(), summed(looked_gradient(x.grad, looked, present), slots[batch.places], len(at))
        self._group.add_up(found, gradient, *(weight.grad for weight in self._learned))
        self._adam.step()
        self._descend(self._tensor(at), gradient)
        return float(found)

    def _distinct(self, codes: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The distinct rows and where each code's is among them; no sorting: a slot per row of the table says."""
        flat = codes.ravel()
        places = np.arange(len(flat))
        self._slot[flat] = places
        at = flat[self._slot[flat] == places]
        self._slot[at] = places[: len(at)]
        return at.astype(np.int64), self._slot[flat].reshape(codes.shape)

    def _looked(self, batch: Batch, listed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors of a batch, (n, words + listed, d), and which of the listed ones there are."""
        words = batch.codes.shape[1] - listed
        present = (batch.codes[:, words:] != self._unknown[words:]).astype(np.float32)
        looked = self._rows.index_select(0, self._tensor(batch.codes.ravel()))
        return looked.view(*batch.codes.shape, self._rows.shape[1]), self._tensor(present)

    def _loss(self, batch: Batch, found: list[torch.Tensor], n: int) -> torch.Tensor:
        """-log P(click) and, where a conversion is known of an impression, -log P(click) P(conversion | click) (Ma et
        al. 2018, "Entire Space Multi-Task Model"); each the sum over the rows, by weight, divided by `n`.

        Where the parent's P(conversion | click) is rehearsed, its cross entropy with what is said now stands for the
        second (Li & Hoiem 2016, "Learning without Forgetting").
        """
        functional = torch.nn.functional
        click, conversion, *others = found
        weight = self._tensor(batch.weight)
        cross_entropy = partial(functional.binary_cross_entropy_with_logits, reduction="sum")
        loss = cross_entropy(click, self._tensor(batch.clicked), weight=weight) / n
        known = np.flatnonzero(~np.isnan(batch.converted))
        if len(known):
            at = self._tensor(known)
            given = self._tensor(~np.isnan(batch.seen[known]))
            log_p = functional.logsigmoid(conversion)[at] + functional.logsigmoid(click)[at] * ~given
            seen = self._tensor(np.nan_to_num(batch.seen[known], nan=1.0))
            log_not = torch.log1p(-(torch.exp(log_p) * seen).clip(max=ALMOST_ONE))
            yes = self._tensor(batch.converted)[at]
            counts = torch.where(given, self._tensor(batch.of_click)[at], weight[at])
            loss = loss - (counts * (yes * log_p + (1 - yes) * log_not)).sum() / n
        for head, logit, label in zip(self._heads, others, batch.further.T, strict=True):
            loss = loss + _further_loss(head, logit, label, weight) / n
        held = np.flatnonzero(~np.isnan(batch.rehearsed))
        if len(held):
            at = self._tensor(held)
            said = self._tensor(batch.rehearsed)[at]
            loss = loss + cross_entropy(conversion[at], said, weight=weight[at]) / n
        return loss

    def _descend(self, at: torch.Tensor, gradient: torch.Tensor) -> None:
        """Row-wise AdaGrad: a row's step shrinks with the sum of its mean squared gradients (Duchi et al. 2011)."""
        sums = self._sums[at] + gradient.square().mean(1)
        self._sums[at] = sums
        rate = self._settings.embedding_learning_rate / (sums.sqrt() + EPSILON)
        self._rows.index_add_(0, at, gradient * -rate[:, None])

    def log_loss(self, rows: Batch, listed: int) -> float:
        """The weighted mean log-loss of clicks, in nats."""
        clicked = rows.clicked.astype(np.float64)
        logit = self.scored(rows, listed)[0]
        losses = np.logaddexp(0.0, logit) - clicked * logit
        return float(np.average(losses, weights=rows.weight))

    def scored(self, rows: Batch, listed: int) -> list[Floats]:
        """The logits of each task by the learner's own library, float64 of float32."""
        found = []
        with torch.no_grad():
            for first in range(0, len(rows), self._settings.batch_size):
                batch = rows.take(slice(first, first + self._settings.batch_size))
                looked, present = self._looked(batch, listed)
                x = inputs(torch, self._tensor(batch.numbers), looked.float(), present)
                found.append(logits(torch, self.weights, x))
        return [torch.cat(parts).cpu().numpy().astype(np.float64) for parts in zip(*found, strict=True)]

    def finished(self) -> tuple[Arrays, Arrays, Embeddings]:
        """Weights, Adam's memory and the table; its rows are rounded to float16 here too, so that `scored` after this
        is the trainer's view of the very model that is stored.
        """
        weights = {name: _array(weight) for name, weight in self.weights.items()}
        memory = {
            f"{name}.{moment}": _array(self._adam.state[weight][moment]).astype(np.float32)
            for name, weight in self.weights.items()
            for moment in MOMENTS
            if moment in self._adam.state.get(weight, {})
        }
        rows, sums = self._rows.cpu().numpy(), self._sums.cpu().numpy()
        stored = Embeddings(self._table.values, rows, sums, self._table.last_seen).at_rest()
        self._table, self._rows = stored, self._tensor(stored.rows)
        return weights, memory, stored

    def _copied(self) -> dict[str, NDArray[Any]]:
        """All that learning moves."""
        weights = {f"{WEIGHT}{name}": _array(weight) for name, weight in self.weights.items()}
        moments = {
            f"{name}.{moment}": _array(self._adam.state[weight][moment])
            for name, weight in self.weights.items()
            for moment in MOMENTS
            if moment in self._adam.state.get(weight, {})
        }
        table = {"rows": _array(self._rows), "accumulators": _array(self._sums)}
        return weights | moments | table

    def _restore(self, before: Mapping[str, NDArray[Any]]) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(self._copy(before[f"{WEIGHT}{name}"]))
                if f"{name}.step" in before:
                    self._adam.state[weight] = {m: self._copy(before[f"{name}.{m}"]) for m in MOMENTS}
        self._rows.copy_(self._copy(before["rows"]))
        self._sums.copy_(self._copy(before["accumulators"]))


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """A copy on the processor."""
    found: NDArray[Any] = tensor.detach().cpu().numpy().copy()
    return found


@contextmanager
def _on_threads(number: int) -> Iterator[None]:
    """Torch's, which are those of the whole process."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _watched(held_out: Batch | None) -> Batch | None:
    """At most `WATCHED` rows, the same each time."""
    if held_out is None or len(held_out) <= WATCHED:
        return held_out
    return held_out.take(np.linspace(0, len(held_out) - 1, WATCHED).astype(np.int64))


def _further_loss(
    head: Head, logit: torch.Tensor, label: NDArray[np.float32], weight: torch.Tensor
) -> torch.Tensor | float:
    """Summed over the rows where it is known: -log P, or that of a Poisson variable, whatever the value's own law."""
    known = np.flatnonzero(~np.isnan(label))
    if not len(known):
        return 0.0
    at, came = (torch.from_numpy(array).to(logit.device) for array in (known, label[known]))
    if head.a_share:
        loss = torch.nn.functional.binary_cross_entropy_with_logits
        return loss(logit[at], came, weight=weight[at], reduction="sum")
    return (weight[at] * (torch.exp(logit[at].clip(max=MOST)) - came * logit[at])).sum()


def followed(group: Group, room: Room) -> int:
    """Learns whatever networks the first process of a group learns, until that says there are no more; how many."""
    done = 0
    while (fit := group.told(None)) is not None:
        Learner(fit.begun).follow(fit, received(fit, group, room))
        done += 1
    return done
