"""Weights + spec, atomic; refuses a mismatch by name."""

from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn
from upath import UPath

from dfloc.config import TrialSpec
from dfloc.errors import WorkspaceError

Weights = Mapping[str, Tensor]


def load(path: UPath, decoder: nn.Module) -> None:
    """Copy a file's weights into a decoder.

    Raises:
        WorkspaceError: the file is missing or damaged, or its tensors are not those of the decoder (names them).
    """
    fill(decoder, read(path), str(path))


def read(path: UPath) -> dict[str, Tensor]:
    """Return a file's tensors by name, on the CPU.

    Raises:
        WorkspaceError: the file is missing or damaged.
    """
    try:
        return safetensors.torch.load(path.read_bytes())
    except FileNotFoundError as error:
        raise WorkspaceError(f"there are no weights at {path}; train the trial again") from error
    except SafetensorError as error:
        raise WorkspaceError(f"weights {path} are damaged ({error}); delete them and train the trial again") from error


def fill(decoder: nn.Module, weights: Weights, source: str) -> None:
    """Copy weights into a decoder that has exactly these tensors.

    Args:
        decoder: it keeps its device.
        weights: by name.
        source: where they come from, for the message.

    Raises:
        WorkspaceError: a tensor is missing, unexpected, or of another shape.
    """
    wanted = decoder.state_dict()
    both = [name for name in wanted if name in weights]
    wrong = {
        "missing": [name for name in wanted if name not in weights],
        "unexpected": sorted(name for name in weights if name not in wanted),
        "of another shape": [
            f"{name} {list(weights[name].shape)} instead of {list(wanted[name].shape)}"
            for name in both
            if weights[name].shape != wanted[name].shape
        ],
    }
    found = "; ".join(f"{what}: {_first(names)}" for what, names in wrong.items() if names)
    if found:
        raise WorkspaceError(f"{source} does not hold this decoder's weights: {found}; it belongs to another decoder")
    decoder.load_state_dict(weights)


def weights_of(decoder: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a decoder's parameters and buffers, on the CPU."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in decoder.state_dict().items()}


def to_bytes(weights: Weights, spec: TrialSpec) -> bytes:
    """Return the safetensors file of weights, with the spec's JSON in its metadata."""
    return safetensors.torch.save(dict(weights), metadata={"spec": spec.model_dump_json()})


def _first(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
