"""Processes that learn one network together come to what one alone comes to; where one dies, the others end."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed

from models.rankers.batches import Batch
from models.rankers.devices import device_of
from models.rankers.gradients import put, summed
from models.rankers.group import Group
from models.rankers.learner import Learner
from models.rankers.mmoe import MMoERanker
from models.rankers.protocol import NoDevice
from models.rankers.shards import Shard
from models.settings import MMoESettings
from tests.models.rankers import group_fit

ROOT = Path(__file__).resolve().parents[3]
NEVER = 0


@contextmanager
def second(folder: Path, dies_at: int = NEVER) -> Iterator[subprocess.Popen[bytes]]:
    """Another process; this one is the first of the two while inside."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.models.rankers.group_fit", str(folder), str(port), str(dies_at)]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}) as other:
        try:
            group_fit.join(0, port)
            yield other
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()
            other.kill()


def test_two_processes_learn_what_one_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of every step to 1e-4, of half of the rows in each, one of them at the store; the last batch is one row.

    A fit goes on from a checkpoint in both, to the same bytes.
    """
    alone, losses = group_fit.learned(group_fit.Store(tmp_path / "alone"))
    store = group_fit.Store(tmp_path / "checkpoint")
    monkeypatch.setattr("models.rankers.learner.EVERY", 4)
    with second(tmp_path) as other:
        found, together = group_fit.learned(store)
        again, further = group_fit.learned(store)
        Group.joined().told(None)
        assert other.wait() == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert len(losses) == 9
    assert max(losses[:-1]) - min(losses[:-1]) > 0.02
    np.testing.assert_allclose(together, losses, rtol=0, atol=1e-4)
    assert further == together[8:]
    assert told == {"losses": [*together, *further], "rows": [group_fit.ROWS // 2], "networks": 2}
    assert (store.loaded, store.saved) == (2, 2)
    assert again.to_files() == found.to_files()
    features = group_fit.data().features
    np.testing.assert_allclose(found.predict(features).p_click, alone.predict(features).p_click, rtol=0, atol=1e-4)


def test_a_process_that_dies_ends_the_others(tmp_path: Path) -> None:
    """Nobody waits for it for hours, nor goes on alone; torchrun, whose agent sees one machine, is not asked."""
    with second(tmp_path, dies_at=3) as other:
        with pytest.raises(RuntimeError, match="onnection"):
            group_fit.learned(group_fit.Store(tmp_path / "checkpoint"))
        assert other.wait() == -signal.SIGKILL
    assert not (tmp_path / "told.json").exists()


@given(st.integers(0, 50), st.integers(1, 5), st.randoms())
def test_every_row_of_a_batch_is_in_one_process(n: int, size: int, random: Any) -> None:
    rows = Batch(*(np.arange(n)[:, None] for _ in range(2)), *(np.arange(n) for _ in range(7)))  # type: ignore[arg-type]
    shards = [Shard(Batch(*(a[rank::size] for a in rows.arrays)), n, Group(rank, size)) for rank in range(size)]
    at = np.array(random.sample(range(n), n // 2), dtype=np.int64)
    found = np.full(len(at), -1)
    for drawn in (shard.drawn(at) for shard in shards):
        assert (found[drawn.places] == -1).all()
        found[drawn.places] = drawn.rows.clicked
    assert found.tolist() == at.tolist()
    assert sum(len(shard.rows) for shard in shards) == n


# --- devices


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A month on the processor is not what was asked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto").type == device_of("cpu").type == "cpu"
    with pytest.raises(NoDevice, match="device = cuda needs a CUDA device; found none"):
        MMoERanker.fit(group_fit.data(), MMoESettings(device="cuda"), 7)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (device_of("auto").type, device_of("cuda").type, device_of("cpu").type) == ("cuda", "cuda", "cpu")


def test_gradients_are_summed_alike_on_any_device() -> None:
    """What another device is asked for, here on the processor."""
    rng = np.random.default_rng(0)
    gradient = torch.from_numpy(rng.standard_normal((50, 3, 4), dtype=np.float32))
    slots = rng.integers(0, 20, (50, 3))
    other = put(gradient.reshape(-1, 4), torch.from_numpy(slots.ravel()), 20)
    torch.testing.assert_close(summed(gradient, slots, 20), other)


def test_a_step_leaves_its_device_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's meta device, whose tensors have no values: one that stayed on the processor is an error."""
    monkeypatch.setattr("models.rankers.learner.device_of", lambda _: torch.device("meta"))
    adam, descend, done = torch.optim.Adam, Learner._descend, []
    monkeypatch.setattr(torch.optim, "Adam", lambda of, lr, fused: adam(of, lr=lr))  # there is no fused one there

    def watched(learner: Learner, at: torch.Tensor, gradient: torch.Tensor) -> None:
        descend(learner, at, gradient)
        done.append((at.device.type, gradient.device.type, gradient.shape == (len(at), 4)))

    monkeypatch.setattr(Learner, "_descend", watched)
    with pytest.raises(RuntimeError, match=r"item.* cannot be called on meta"):  # a loss without a value
        MMoERanker.fit(group_fit.data(), group_fit.SETTINGS, 7)
    assert done == [("meta", "meta", True)]
