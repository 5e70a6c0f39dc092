"""torch-rechub's MMoE on encoded rows, run with its folder on the path: `rechub_peer.py FOLDER OUT RATE`.

The same experts, towers, vectors and batches as ours, one pass, by its own loader and trainer, on one thread. Its
optimiser is its default, Adam over every table, at the rate given. All numbers come as one column of vectors, which
saves its loader most of its work.
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature
from torch_rechub.models.multi_task import MMOE
from torch_rechub.trainers import MTLTrainer
from torch_rechub.utils.data import DataGenerator


def main(folder: Path, out: Path, rate: float) -> None:
    """Writes its seconds of processor time for one pass, for the steps alone, and what it says of the test rows."""
    torch.set_num_threads(1)
    torch.manual_seed(7)
    about: dict[str, Any] = json.loads((folder / "about.json").read_text())
    train, test = (dict(np.load(folder / f"{part}.npz")) for part in ("train", "test"))
    model = MMOE(
        features(about), ["classification"] * 2, about["experts"], {"dims": [about["expert_width"]]},
        [{"dims": [about["tower_width"]]}] * 2,
    )  # fmt: skip
    trainer = MTLTrainer(model, ["classification"] * 2, optimizer_params={"lr": rate, "weight_decay": 1e-5}, n_epoch=1)
    y, x = train.pop("y"), train
    loader = DataGenerator(x, y).generate_dataloader(x_val=x, y_val=y, x_test=x, y_test=y, batch_size=about["batch"])[0]
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.train_one_epoch(loader)
    seconds = time.process_time() - started
    batches = [[{k: torch.from_numpy(v[:1024]) for k, v in x.items()}, torch.from_numpy(y[:1024])]] * 20
    model.eval()
    with torch.no_grad():
        said = [model({k: torch.from_numpy(v[at : at + 4096]) for k, v in test.items() if k != "y"}).numpy()
                for at in range(0, len(test["y"]), 4096)]  # fmt: skip
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trainer.train_one_epoch(batches)
    step = (time.process_time() - started) / len(batches)
    np.save(out.with_suffix(".npy"), np.concatenate(said))
    out.write_text(json.dumps({"seconds": seconds, "step_seconds": step, "rows": len(y)}))


def features(about: dict[str, Any]) -> list[Any]:
    """One for all numbers, one for each word, and the mean of the listed items' vectors."""
    d = about["dimensions"]
    words = [SparseFeature(name, size, d) for name, size in about["words"].items()]
    size = about["words"]["item_id"]
    listed = SequenceFeature("last_items", size, d, pooling="mean", shared_with="item_id", padding_idx=0)
    return [*words, listed, DenseFeature("numbers", about["numbers"])]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
