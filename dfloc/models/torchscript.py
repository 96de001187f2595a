"""TorchScript archives: their parameters and buffers, read as values; nothing that an archive names is run."""

import pickletools
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import torch
from torch import Tensor

from dfloc.errors import DataError

MAX_TEXT = 1 << 23  # bytes of data.pkl, or of one file of code, which describe a network and hold none of its numbers
MAX_NAMES, MAX_NAME = 100_000, 1_000
MAX_OPERATIONS = 1_000_000  # of data.pkl; a network of 5,000 tensors takes some 200,000

STORAGES: Mapping[str, torch.dtype] = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


def is_archive(archive: ZipFile) -> bool:
    """Return whether a zip file is of TorchScript."""
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read(path: Path, archive: ZipFile) -> dict[str, Tensor]:
    """Return what `torch.jit.load(path).state_dict()` would, by the same names, on the CPU.

    Args:
        path: for messages.
        archive: its entries have been checked for their sizes.

    Raises:
        DataError: it restores itself by code of its own, or holds what is not known here (says how to convert it).
        Exception: it is damaged.
    """
    root = archive.namelist()[0].partition("/")[0]
    try:
        order = f"{root}/byteorder"
        if order in archive.namelist() and _entry(archive, order) != b"little":
            raise _UnknownError("numbers in another byte order")
        classes = _classes(archive, f"{root}/code/")
        views = _state(_value(_entry(archive, f"{root}/data.pkl")), classes)
    except _UnusedError as error:
        raise DataError(f"weights {path}: a TorchScript archive with {error}, which dfloc does not use") from None
    except _UnknownError as error:
        code = f'import torch; torch.save(torch.jit.load({str(path.absolute())!r}, "cpu").state_dict(), "out.pt")'
        raise DataError(
            f"weights {path}: a TorchScript archive with {error}, which dfloc does not run or know; where you trust "
            f"it: python -c {shlex.quote(code)}"
        ) from None
    storages = {view.storage: _filled(archive, f"{root}/data/", view.storage) for view in views.values()}
    return {
        name: torch.as_strided(storages[view.storage], view.size, view.stride, view.offset)
        for name, view in views.items()
    }


class _UnknownError(Exception):
    """What an archive holds that is not known here."""


class _UnusedError(Exception):
    """Numbers of a kind that no decoder has."""


class _Name(NamedTuple):
    """What a pickle would import: it stays a name."""

    name: str


@dataclass
class _Object:
    """What a pickle would make of a class, and the attributes that it would give it."""

    of: str
    state: Any = None


class _Storage(NamedTuple):
    """Numbers in a file of the archive."""

    key: str
    dtype: torch.dtype
    numel: int


class _View(NamedTuple):
    """A tensor: elements of a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _entry(archive: ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_TEXT:
        raise ValueError(f"{name} has more than {MAX_TEXT:,} bytes")
    return archive.read(name)


def _classes(archive: ZipFile, folder: str) -> dict[str, frozenset[str]]:
    """Return the names of each class's parameters and buffers, as its code lists them."""
    found = {}
    for name in archive.namelist():
        if not (name.startswith(folder) and name.endswith(".py")):
            continue
        text = _entry(archive, name).decode()
        if re.search(r"^ *def __setstate__\(", text, re.MULTILINE):
            raise _UnknownError("code of its own that restores it (__setstate__)")
        module = name.removeprefix(folder).removesuffix(".py").replace("/", ".")
        for own, part in re.findall(r"^class (\w+)(.*?)(?=^class |\Z)", text, re.MULTILINE | re.DOTALL):
            lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*)\]$", part, re.MULTILINE)
            found[f"{module}.{own}"] = frozenset(re.findall(r'"(.*?)"', "".join(lists)))
    return found


def _state(network: Any, classes: Mapping[str, frozenset[str]]) -> dict[str, _View]:
    """Return the parameters and buffers of a module and of those inside."""
    found: dict[str, _View] = {}
    waiting, seen = [("", network)], 0
    while waiting:
        prefix, module = waiting.pop()
        if module.of not in classes:
            raise _UnknownError(f"the class {module.of[:100]}, without its code,")
        seen += len(module.state)
        if seen > MAX_NAMES or len(prefix) > MAX_NAME:
            raise ValueError("its modules hold one another without end")
        for name, value in module.state.items():
            if isinstance(value, _View) and name in classes[module.of]:
                found[prefix + name] = value
        inside = [(f"{prefix}{name}.", value) for name, value in module.state.items() if isinstance(value, _Object)]
        waiting.extend(reversed(inside))
    return found


def _filled(archive: ZipFile, folder: str, storage: _Storage) -> Tensor:
    values = bytearray(archive.read(folder + storage.key))
    if len(values) != storage.numel * storage.dtype.itemsize:
        raise ValueError(f"{folder}{storage.key} has {len(values)} bytes, expected {storage.numel} {storage.dtype}")
    return torch.frombuffer(values, dtype=storage.dtype) if values else torch.empty(0, dtype=storage.dtype)


_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_PLAIN = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"})

# How many values of the stack an operation takes; none: all down to the mark.
_TAKES: Mapping[str, int | None] = {
    **{"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None},
    **{"APPEND": 1, "APPENDS": None, "SETITEM": 2, "SETITEMS": None},
    **{"BINPERSID": 1, "REDUCE": 2, "NEWOBJ": 2, "BUILD": 1},
}


def _value(pickled: bytes) -> Any:
    """Return what a pickle of TorchScript's says: a stack of values, on which no operation calls or imports anything.

    `pickle.Unpickler` is not used: even one that finds no class can be made to take memory without end, or to crash.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    for done, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
        if done > MAX_OPERATIONS:
            raise ValueError(f"it has more than {MAX_OPERATIONS:,} operations")
        name = operation.name
        if name in _PLAIN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if name == "EMPTY_LIST" else {})
        elif name == "GLOBAL":
            stack.append(_Name(str(argument).replace(" ", ".")))
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name in _TAKES:
            count = _TAKES[name]
            start = marks.pop() if count is None else len(stack) - count
            taken = stack[start:]
            del stack[start:]
            _put(stack, name, taken)
        elif name not in ("PROTO", "STOP"):
            raise _UnknownError(f"the operation {name}")
    return stack.pop()


def _put(stack: list[Any], operation: str, taken: list[Any]) -> None:
    """Put onto the stack, or into what is on top of it, what an operation makes of the values that it takes."""
    match operation:
        case "APPEND" | "APPENDS":
            stack[-1].extend(taken)
        case "SETITEM" | "SETITEMS":
            if not all(isinstance(key, str | int | float) for key in taken[::2]):
                raise _UnknownError("names that are no words")
            stack[-1].update(zip(taken[::2], taken[1::2], strict=True))
        case "BINPERSID":
            _, kind, key, _, numel = taken[0]
            if kind.name not in STORAGES:
                raise _UnusedError(f"numbers of the kind {kind.name[:100]}")
            stack.append(_Storage(str(key), STORAGES[kind.name], int(numel)))
        case "REDUCE":
            stack.append(_made(taken[0].name, taken[1]))
        case "NEWOBJ":
            stack.append(_Object(taken[0].name))
        case "BUILD":
            stack[-1].state = taken[0]
        case _:
            stack.append(tuple(taken))


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return what a function of a name would make."""
    match name:
        case "torch._utils._rebuild_tensor_v2" if not any(arguments[6:]):
            storage, offset, size, stride = arguments[:4]
            if not isinstance(storage, _Storage):
                raise ValueError("a tensor without numbers")
            return _View(storage, offset, size, stride)
        case "torch._utils._rebuild_parameter":
            return arguments[0]
        case "collections.OrderedDict":
            return {}
        case _ if name in _VALUES or name.startswith("__torch__."):  # a list, a dict, a named tuple, a device
            return arguments
    raise _UnknownError(f"values of {name[:100]}")


_VALUES = frozenset(
    {
        "torch.device",
        *(f"torch.jit._pickle.build_{kind}list" for kind in ("int", "double", "bool", "tensor")),
        "torch.jit._pickle.restore_type_tag",
    }
)
