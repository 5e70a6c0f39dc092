"""Where a network learns: by setting, on a CUDA device where there is one."""

from typing import Literal

import torch

from models.rankers.protocol import NoDevice


def device_of(setting: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """`auto` is CUDA's current device where there is one, else the processor; raises `NoDevice` where there is none."""
    there = torch.cuda.is_available()
    if setting == "cuda" and not there:
        raise NoDevice(f"device = cuda needs a CUDA device; found none that torch {torch.__version__} can use")
    return torch.device("cuda" if there and setting != "cpu" else "cpu")
