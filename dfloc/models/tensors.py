"""Tensors in a file of weights: read without running anything of it, and digested."""

import hashlib
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from upath import UPath

from dfloc.errors import ConfigError

NESTED = ("state_dict", "model")
"""Keys under which checkpoints keep a network's tensors."""

_BROKEN = (
    SafetensorError,
    RuntimeError,
    ValueError,
    EOFError,
    LookupError,
    AttributeError,
    zipfile.BadZipFile,
    OSError,
)


def read(word: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, memory-mapped where the form allows it.

    Args:
        word: path or URL of safetensors, a torch state dict (also nested in a checkpoint), or a TorchScript archive.

    Raises:
        ConfigError: it is missing, no file, empty, damaged, or holds Python objects that are no tensors.
    """
    if "://" not in word:
        return _tensors(Path(word).expanduser())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PurePosixPath(word).name
        try:
            path = UPath(word)
            path.fs.get_file(path.path, str(copy))
        except (ImportError, ValueError, OSError) as error:
            raise ConfigError(f"weights {word} cannot be fetched: {type(error).__name__}: {error}") from error
        return _tensors(copy)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return sha256 over names, dtypes, shapes and bytes, in the order of names; the device does not matter."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous().numpy()
        total.update(f"{name}\0{values.dtype.str}\0{values.shape}\0".encode())
        total.update(values.data.cast("B") if values.size else b"")
    return total.hexdigest()


def some(names: Iterable[str]) -> str:
    """Return how many names there are and the first of them, for a message."""
    listed = list(names)
    more = f", ... {len(listed)} in all" if len(listed) > 2 else ""
    return ", ".join(listed[:2]) + more


def counts(name: str) -> bool:
    """Return whether a tensor is a BatchNorm's counter of batches: nothing reads it, and files differ in it."""
    return name.endswith("num_batches_tracked")


def differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Return in words how given tensors differ from a network's own by name or shape; "" where they do not."""
    missing = [name for name in own if name not in given and not counts(name)]
    extra = [name for name in given if name not in own]
    odd = [name for name in given if name in own and given[name].shape != own[name].shape]
    parts = [f"it lacks {some(missing)}"] if missing else []
    if extra:
        parts.append(f"the model has no {some(extra)}")
    if odd:
        shapes = ("x".join(map(str, each[odd[0]].shape)) for each in (given, own))
        more = f" (and {len(odd) - 1} more)" if odd[1:] else ""
        parts.append("{} is {}, expected {}".format(odd[0], *shapes) + more)
    return "; ".join(parts)


def plain(path: Path, entries: Mapping[Any, object]) -> dict[str, Tensor]:
    """Return entries as tensors by name.

    Raises:
        ConfigError: one is no tensor, or sparse, quantised, complex or without values (named).
    """
    odd = [str(name) for name, value in entries.items() if not (isinstance(name, str) and _is_plain(value))]
    if odd:
        raise ConfigError(f"{path}: {some(odd)} should be plain tensors: dense, not quantised, of real numbers")
    return {name: value for name, value in entries.items() if isinstance(value, Tensor)}


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Return if every value is a finite number.

    Raises:
        ConfigError: one is not (named).
    """
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise ConfigError(f"{path}: {some(bad)} has a value that is no finite number; fetch the file again")


def _is_plain(value: object) -> bool:
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    return not (value.is_meta or value.is_quantized or value.is_complex())


def contents(path: Path) -> Any:
    """Return what a file of this machine holds: a mapping from names, whose values need not all be tensors.

    Raises:
        ConfigError: it is missing, no file, empty, damaged, or holds Python objects.
    """
    if not path.is_file():
        raise ConfigError(f"weights {path}: expected a file, but it is {'a folder' if path.is_dir() else 'missing'}")
    if path.stat().st_size == 0:
        raise ConfigError(f"weights {path}: the file is empty; fetch it again")
    try:
        return _parsed(path)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"weights {path}: it holds Python objects or is damaged; expected tensors alone: safetensors, a torch "
            "state dict or a TorchScript archive"
        ) from error
    except _BROKEN as error:
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise ConfigError(
            f"weights {path} cannot be read, it may be cut off: {reason}; fetch the file again"
        ) from error


def _tensors(path: Path) -> dict[str, Tensor]:
    found = contents(path)
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    entries = found.items() if isinstance(found, Mapping) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    if not tensors:
        raise ConfigError(f"weights {path}: no tensors by name are in it; expected a network's state dict")
    return tensors


def _parsed(path: Path) -> Any:
    """Return what a file holds; its form is known by its first bytes, not by its name."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{" or path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    zipped = zipfile.is_zipfile(path)
    if zipped and any(name.endswith("/constants.pkl") for name in zipfile.ZipFile(path).namelist()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch would have new archives in another form
            return torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
