"""A trial small enough to train in a fraction of a second, and sources without files."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from dfloc.config import DecoderSpec, LossSpec, MapRecipe, OptimizerSpec, SampleList, ScheduleSpec, TrialSpec
from dfloc.engine.batches import Batch
from dfloc.engine.fit import Member
from dfloc.ledger import EpochRecord
from dfloc.registry import MapSpec

CHANNELS, GRID = 3, 16
MAPS = (MapSpec(CHANNELS, GRID, GRID),)
RECIPE = MapRecipe(map="srm/stats", weights="none", input_size=256, resize="pil-bilinear", semantics={"decode": 1})


class FakeSource:
    """Maps whose first channel shows the mask through noise; remembers what it was asked for.

    Args:
        touch: may change a batch before it is handed out.
    """

    def __init__(self, num_samples: int = 10, seed: int = 0, touch: Callable[[Batch], Batch] | None = None):
        generator = torch.Generator().manual_seed(seed)
        self.num_samples = num_samples
        self.asked: list[list[int]] = []
        self.touch = touch
        coarse = torch.rand(num_samples, 1, 4, 4, generator=generator) > 0.7
        mask = coarse.repeat_interleave(GRID // 4, 2).repeat_interleave(GRID // 4, 3)
        noise = torch.randn(num_samples, CHANNELS, GRID, GRID, generator=generator)
        self.x = noise * 0.3 + mask * 2.0 + 5.0
        self.target = mask[:, 0].repeat_interleave(256 // GRID, 1).repeat_interleave(256 // GRID, 2).to(torch.uint8)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        self.asked.append(list(indices))
        batch = Batch(self.x[list(indices)], self.target[list(indices)], indices)
        return self.touch(batch) if self.touch else batch


def make_spec(**changes: Any) -> TrialSpec:
    decoder = {"name": "conv", "depth": 4, "channels": (4, 4), "out_size": 32, "standardize": True}
    fields: dict[str, Any] = {
        "train": SampleList(digest="t", counts={"a/b": 10}),
        "valid": SampleList(digest="v", counts={"a/b": 4}),
        "maps": (RECIPE,),
        "loss": LossSpec(name="bce"),
        "optimizer": OptimizerSpec(name="adamw", lr=1e-2),
        "schedule": ScheduleSpec(name="constant"),
        "epochs": 3,
        "batch": 4,
    }
    decoder |= changes.pop("decoder", {})
    return TrialSpec(**(fields | {"decoder": DecoderSpec(**decoder)} | changes))


def numbers(record: EpochRecord) -> dict[str, Any]:
    """Return what must be equal in two runs: all but the times."""
    return record.model_dump(exclude={"seconds", "time"})


def make_member(spec: TrialSpec, **arguments: Any) -> Member:
    return Member.create(spec, MAPS, **arguments)
