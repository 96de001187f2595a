"""Tensors in a file of weights: read without running anything of it, and digested."""

import hashlib
import io
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, _weights_only_unpickler
from upath import UPath

from dfloc.errors import ConfigError, DataError, DflocError
from dfloc.models import torchscript

FORMS: Mapping[str, str] = {
    "safetensors": "the format of that library",
    "a torch state dict": (
        "what torch.save makes of tensors by name, also under state_dict, model or net in a checkpoint"
    ),
    "a TorchScript archive": "what torch.jit.save makes: its parameters and buffers",
}
"""What files of weights are read; a file is known by its first bytes. None of them is run."""

NESTED = ("state_dict", "model", "net")
"""Keys under which checkpoints keep a network's tensors."""

DTYPES = frozenset({*torchscript.STORAGES.values(), torch.uint16, torch.uint32, torch.uint64})

MAX_CODE = 1 << 25  # bytes of the code of a TorchScript archive, which is compressed


def read(word: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, memory-mapped where the form allows it.

    Args:
        word: path or URL of a file of one of the `FORMS`.

    Raises:
        ConfigError: it is missing, no file, or cannot be fetched.
        DataError: it is empty, damaged, or holds anything but tensors.
    """
    if "://" not in word:
        return _tensors(Path(word).expanduser())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PurePosixPath(word).name
        try:
            path = UPath(word)
            path.fs.get_file(path.path, str(copy))
        except Exception as error:
            raise ConfigError(f"weights {word} cannot be fetched: {type(error).__name__}: {_line(error)}") from error
        return _tensors(copy)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return sha256 over names, dtypes, shapes and bytes, in the order of names; the device does not matter."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        brain = plain.dtype is torch.bfloat16  # which numpy lacks
        values = (plain.view(torch.int16) if brain else plain).numpy()
        total.update(f"{name}\0{'bfloat16' if brain else values.dtype.str}\0{values.shape}\0".encode())
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
        DataError: one is no tensor, or sparse, without values, larger than the file, or of numbers that are quantised,
            complex or of fewer than 8 bits or 8 as a float (named).
    """
    most = path.stat().st_size
    odd = [str(name) for name, value in entries.items() if not (isinstance(name, str) and _is_plain(value, most))]
    if odd:
        wanted = "plain tensors: dense, not quantised, of real numbers (no float8), none larger than the file"
        raise DataError(f"{path}: {some(odd)} should be {wanted}")
    return {name: value for name, value in entries.items() if isinstance(value, Tensor)}


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Return if every value is a finite number.

    Raises:
        DataError: one is not (named).
    """
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise DataError(f"{path}: {some(bad)} has a value that is no finite number; fetch the file again")


def _is_plain(value: object, most: int) -> bool:
    """Return whether a value is a tensor of numbers, of so many bytes at most: an expanded one may fill any memory."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided:
        return False
    return value.dtype in DTYPES and not value.is_meta and value.nbytes <= most


def contents(path: Path) -> Any:
    """Return what a file of this machine holds: a mapping from names, whose values need not all be tensors.

    Raises:
        ConfigError: it is missing or no file.
        DataError: it is empty, damaged, or holds Python objects.
    """
    if not path.is_file():
        other = "no regular file" if path.exists() else "missing"
        raise ConfigError(f"weights {path}: expected a file, but it is {'a folder' if path.is_dir() else other}")
    try:
        return _parsed(path)
    except DflocError:
        raise
    except pickle.UnpicklingError as error:
        raise DataError(
            f"weights {path}: it holds Python objects or is damaged; expected tensors alone: {_either(FORMS)}; where "
            "you trust it, torch.load it there with weights_only=False and torch.save the model's state_dict()"
        ) from error
    except Exception as error:
        raise DataError(
            f"weights {path} cannot be read, it may be cut off: {_line(error)}; fetch the file again (expected "
            f"{_either(FORMS)})"
        ) from error


def _tensors(path: Path) -> dict[str, Tensor]:
    found = contents(path)
    for key in NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    entries = found.items() if isinstance(found, Mapping) else ()
    tensors = plain(path, {str(name): value for name, value in entries if isinstance(value, Tensor)})
    if not tensors:
        raise DataError(f"weights {path}: no tensors by name are in it; expected a network's state dict")
    return tensors


def _parsed(path: Path) -> Any:
    """Return what a file holds; its form is known by its first bytes, not by its name."""
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"weights {path}: the file is empty; fetch it again")
    with path.open("rb") as file:
        head = file.read(9)
    others = head.startswith((b"PK", b"\x80"))  # a zip, a pickle
    if head[8:] == b"{" or (path.suffix == ".safetensors" and not others):
        return safetensors.torch.load_file(path)
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            _check(archive, size)
            if torchscript.is_archive(archive):
                return torchscript.read(path, archive)
            names = archive.namelist()
            root = names[0].partition("/")[0] if names else ""
            if f"{root}/data.pkl" not in names:
                held = some(names) or "nothing"
                raise DataError(f"weights {path}: a zip archive of {held}, not torch's; expected {_either(FORMS)}")
            _check_storages(path, archive, root)
    misnamed = path.suffix == ".safetensors"  # by which torch would go
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # of odd pickles, which it refuses or reads
        given = file if misnamed else path
        return torch.load(given, map_location="cpu", weights_only=True, mmap=zipped and not misnamed)


def _check(archive: zipfile.ZipFile, size: int) -> None:
    """Return if an archive of so many bytes is as torch writes it: what is in it was not packed again, nor damaged."""
    entries = archive.infolist()
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("a name is twice in it")
    stored = [entry for entry in entries if "/code/" not in entry.filename]  # TorchScript's, the one part it packs
    if packed := [entry.filename for entry in stored if entry.compress_type != zipfile.ZIP_STORED]:
        raise ValueError(f"{packed[0]} is compressed, which torch never does")
    if sum(entry.file_size for entry in stored) > size or sum(entry.file_size for entry in entries) > size + MAX_CODE:
        raise ValueError("its entries say that they are larger than the file")
    if any(entry.CRC for entry in entries) and (bad := archive.testzip()):  # torch can be told to write none
        raise ValueError(f"{bad} is not what was written")


def _check_storages(path: Path, archive: zipfile.ZipFile, root: str) -> None:
    """Return if what torch's pickle says of each storage is what is stored: torch reads on beyond one that is shorter.

    Its own reader of pickles is asked, so that no other reading is checked.
    """
    reader: Any = torch._C.PyTorchFileReader(str(path))
    whole = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)

    def persistent_load(saved: tuple[Any, ...]) -> torch.TypedStorage:
        _, kind, key, _, numel = saved
        dtype = torch.uint8 if kind is torch.UntypedStorage else kind.dtype
        name, size = f"{root}/data/{key}", int(numel) * dtype.itemsize
        if archive.getinfo(name).file_size != size:
            raise ValueError(f"{name} has {archive.getinfo(name).file_size:,} bytes, but data.pkl says {size:,}")
        begin = reader.get_record_offset(f"data/{key}")
        mapped = whole[begin : begin + size]
        return torch.TypedStorage(wrap_storage=mapped, dtype=dtype, _internal=True)  # type: ignore[no-untyped-call]

    pickled = io.BytesIO(reader.get_record("data.pkl"))
    unpickler: Any = _weights_only_unpickler.Unpickler(pickled, encoding="utf-8")
    unpickler.persistent_load = persistent_load
    unpickler.load()


def _either(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"


def _line(error: Exception) -> str:
    """Return the first sentence of what a library says."""
    return str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
