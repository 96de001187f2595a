"""Files of weights of every form that is read, changed, and hostile ones: an error, or tensors; nothing is run."""

import io
import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from dfloc.models import tensors
from tests.fuzz import mutate
from tests.fuzz.harness import Case, Part, WrongError

STATE = {
    "b.weight": torch.arange(6.0).reshape(2, 3),
    "a": torch.tensor(7),
    "half": torch.linspace(0, 1, 40, dtype=torch.float16),
}
MAX_VALUES = 1 << 20  # more than any of these files can hold

rung: list[object] = []
"""Holds something as soon as a file was obeyed."""


def ring(*words: object) -> dict[str, Tensor]:
    """Remember that a file made somebody call this."""
    rung.append(words)
    return dict(STATE)


class Evil:
    """Is called where something unpickles it."""

    def __init__(self, call: Callable[..., Any], *words: object):
        self.call, self.words = call, words

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call, self.words


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name, value in STATE.items():
            self.register_buffer(f"x_{name[0]}", value)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.x_b + self.x_a + self.x_h[0]


class Hostile(nn.Module):
    """A module whose archive writes over a file as it is loaded."""

    def __init__(self, target: str):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3))
        self.target = target

    def forward(self, x: Tensor) -> Tensor:
        return x + self.w

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, str]:
        return (self.w, self.target)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, str]) -> None:
        file = torch.from_file(state[1], True, 4, dtype=torch.uint8)
        file.fill_(33)  # its sum is used, else the compiler leaves it away
        self.w = state[0] + file.sum().to(torch.float32) * 0
        self.target = state[1]
        self.training = False


class Valid(NamedTuple):
    """A file, and what is in it by name; empty where nothing of it may be taken."""

    data: bytes
    state: Mapping[str, Tensor]


CANARY = Path(tempfile.gettempdir()) / f"dfloc-fuzz-canary-{os.getpid():08d}"  # always as long, as cases hold it
ALIVE = b"alive"


@cache
def valid() -> dict[str, Valid]:
    """Return small whole files of every form, and files that want something run."""
    nested = {"epoch": 3, "state_dict": STATE, "optimizer": {"lr": 0.1, "betas": (0.9, 0.99)}}
    inner = {"state_dict": {"model": STATE}}
    found = {"safetensors": Valid(safetensors.torch.save(STATE, metadata={"spec": "{}"}), STATE)}
    for name, value in (("plain", STATE), ("nested", nested), ("inner", inner)):
        for zipped in (True, False):
            found[f"{name} {'zip' if zipped else 'legacy'}"] = Valid(_saved(value, zipped), STATE)
    buffers = {f"x_{name[0]}": value for name, value in STATE.items()}
    module = Network().eval()
    for name, script in (
        ("scripted", torch.jit.script(module)),
        ("traced", torch.jit.trace(module, torch.zeros(2, 3))),
    ):
        found[name] = Valid(_script(script), buffers)
    found["hostile script"] = Valid(_script(torch.jit.script(Hostile(str(CANARY)))), {})
    return found | {f"hostile {name}": file for name, file in hostile().items()}


@cache
def hostile() -> dict[str, Valid]:
    """Return files of several forms that want something called."""
    calls: dict[str, tuple[Callable[..., Any], tuple[object, ...]]] = {
        "system": (os.system, (f"rm -f {CANARY}",)),
        "eval": (eval, (f"__import__('pathlib').Path({str(CANARY)!r}).unlink()",)),
        "unlink": (Path.unlink, (CANARY,)),
        "ring": (ring, ()),
        "partial": (partial, (ring,)),
        "load": (torch.load, (str(CANARY), None, None)),
        "getattr": (getattr, (Path, "unlink")),
        "from_file": (torch.from_file, (str(CANARY), True, 4)),
    }
    found = {}
    for name, (call, words) in calls.items():
        evil = {**STATE, "evil": Evil(call, *words)}
        for zipped in (True, False):
            found[f"{name} {'zip' if zipped else 'legacy'}"] = Valid(_saved(evil, zipped), {})
        found[f"{name} in a script"] = Valid(
            _with_pickle(_scripted(), pickle.dumps({"evil": Evil(call, *words)}, 2)), {}
        )
    return found


@cache
def _scripted() -> bytes:
    return _script(torch.jit.script(Network().eval()))


def _saved(value: object, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _script(module: Any) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()


def _entries(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def _zip(entries: list[tuple[str, bytes]], how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def _with_pickle(data: bytes, pickled: bytes) -> bytes:
    return _zip([(name, pickled if name.endswith("data.pkl") else content) for name, content in _entries(data)])


def inside(data: bytes, rng: Random) -> bytes:
    """Change what is in one file of a zip archive, or the files' names, order and number; checksums stay right."""
    entries = _entries(data)
    place = rng.randrange(len(entries))
    if rng.random() < 0.5:
        place = next(k for k, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    name, content = entries[place]
    how = rng.randrange(6)
    if how == 0:
        del entries[place]
    elif how == 1:
        entries[place] = (rng.choice(entries)[0], content)
    elif how == 2:
        entries.append((name, b""))
    else:
        entries[place] = (name, rng.choice(mutate.GENERAL)(content, rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that stands twice
        return _zip(entries, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _make(rng: Random) -> Case:
    files = valid()
    name = rng.choice(list(files))
    data, state = files[name]
    how = rng.random()
    if how < 0.08 or (name.startswith("hostile") and how < 0.3):
        changed, why, exact = data, "as it is", True
    elif how < 0.2:
        changed, why, exact = data[: rng.randrange(len(data))], "cut", True
    elif how < 0.6 and zipfile.is_zipfile(io.BytesIO(data)):
        changed, why, exact = inside(data, rng), "inside", False
    else:
        changed, why, exact = mutate.some(data, [file.data for file in files.values()], rng), "changed", False
    suffix = ".safetensors" if name == "safetensors" or rng.random() < 0.02 else rng.choice((".pth", ".pt", ""))
    return Case(f"{name}, {why}", changed, partial(read, state=state, exact=exact, suffix=suffix))


PART = Part("weights", 1500, _make)


def read(data: bytes, state: Mapping[str, Tensor], exact: bool, suffix: str) -> str:
    """Read a file of weights as every command does; with `exact` its tensors are those of `state` or refused."""
    CANARY.write_bytes(ALIVE)
    rung.clear()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"weights{suffix}")
            path.write_bytes(data)
            found = tensors.read(str(path))
            _check(found)
            same = found.keys() == state.keys() and all(_equal(found[name], value) for name, value in state.items())
    finally:
        if rung or not CANARY.exists() or CANARY.read_bytes() != ALIVE:
            raise WrongError("the file was obeyed: it ran what it names")
    if exact and not same:
        raise WrongError(f"other tensors than are in it: {sorted(found)}")
    return "right" if same else "read"


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _check(found: Mapping[str, Tensor]) -> None:
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WrongError(f"{name!r} is a {type(value).__name__}")
        if value.layout is torch.strided and not value.is_meta and not value.is_quantized:
            if value.numel() > MAX_VALUES:
                raise WrongError(f"{name} has {value.numel()} values")
            value.detach().clone().sum()  # every value is touched
