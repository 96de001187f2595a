"""What decoders are made of: the training samples as they read them, standardization, and how weights are drawn."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

Init = Literal["default", "declip", "patches"]
Made = TypeVar("Made", bound=nn.Module)
CHUNK = 64  # images that a closed form looks at together


class Examples(Protocol):
    """The training samples, as what is solved reads them (engine.batches.Source is one)."""

    @property
    def num_samples(self) -> int:
        """Number of training samples."""
        ...

    def batch(self, indices: Sequence[int], epoch: int) -> Any:
        """Return `x` [B, C, H, W], `target_BHW` (fakeness in [0, 1] at 256) and `label_B` of these samples."""
        ...


def chunks(source: Examples) -> Iterator[Any]:
    """Yield the training samples in order, `CHUNK` at a time, as a closed form reads them."""
    for start in range(0, source.num_samples, CHUNK):
        yield source.batch(list(range(start, min(start + CHUNK, source.num_samples))), 0)


class Standardize(nn.Module):
    """Takes each channel to mean 0 and deviation 1 over the training samples' cells; a constant channel to 0."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the standardized maps."""
        return (x_BCHW - self.mean) / self.deviation

    def solve(self, source: Examples) -> None:
        """Measure mean and deviation (population) in float64."""
        count, total_C, square_C = 0, torch.zeros(()), torch.zeros(())
        for batch in chunks(source):
            x_BCHW = batch.x.double()
            count += x_BCHW.numel() // x_BCHW.shape[1]
            total_C = total_C.to(x_BCHW) + x_BCHW.sum((0, 2, 3))
            square_C = square_C.to(x_BCHW) + x_BCHW.square().sum((0, 2, 3))
        mean_C = total_C / count
        deviation_C = (square_C / count - mean_C.square()).clamp(min=0).sqrt()
        constant_C = deviation_C <= 1e-6 * (1 + mean_C.abs())
        self.mean.copy_(mean_C[:, None, None])
        self.deviation.copy_(torch.where(constant_C, 1.0, deviation_C)[:, None, None])


def allocate(module: Made, device: torch.device) -> Made:
    """Give what was made on the meta device memory on another, as `to_empty`, which loads sympy for it: a second."""

    def empty(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device)

    return cast(Made, module._apply(empty))  # type: ignore[no-untyped-call]


def on_meta(module: nn.Module) -> bool:
    """Return whether a module has weights, and all of them are shapes alone."""
    weights = [*module.parameters()]
    return bool(weights) and all(weight.is_meta for weight in weights)


def initialise(decoder: nn.Module, init: Init, generator: torch.Generator) -> None:
    """Draw every weight from the generator, in the order in which the layers run; reset all else.

    `default` is PyTorch's: weights and biases of a convolution uniform within 1 / sqrt(fan in), BatchNorm 1 and 0.
    `declip` draws every weight, BatchNorm's scale included, from N(0, 0.02) and leaves biases as PyTorch does.
    `patches` (Tantaru et al. 2024, of Patches) draws weights of convolutions as Glorot and Bengio (2010), normal, times
    0.02, makes their biases 0, and draws BatchNorm's scale from N(1, 0.02).

    Weights on the meta device stay as they are: there a draw changes nothing, and would load PyTorch's compiler.
    """
    if on_meta(decoder):
        return
    for layer in decoder.modules():
        if isinstance(layer, Standardize):
            nn.init.zeros_(layer.mean)
            nn.init.ones_(layer.deviation)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        elif isinstance(layer, nn.Conv2d):
            bound = 1 / math.sqrt(layer.weight[0].numel())
            nn.init.uniform_(layer.weight, -bound, bound, generator)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator)
        if init == "declip" and isinstance(layer, (nn.BatchNorm2d, nn.Conv2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02, generator)
        if init == "patches" and isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02, generator)
        elif init == "patches" and isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight, 0.02, generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
