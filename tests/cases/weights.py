"""Files of weights that attack what reads them, and archives of TorchScript made by hand."""

import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

PAYLOAD = b"\n: overwritten\n#"


class Overwrites(nn.Module):
    """Writes into another file when `torch.jit.load` restores it."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3))
        self.p = torch.tensor(list(PAYLOAD), dtype=torch.uint8)
        self.t = target

    def forward(self, x: Tensor) -> Tensor:
        return x + self.w

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, Tensor, str]:
        return (self.w, self.p, self.t)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, Tensor, str]) -> None:
        t = torch.from_file(state[2], True, state[1].numel(), dtype=torch.uint8)
        t.copy_(state[1])
        self.w = state[0] + t.sum().to(torch.float32) * 0
        self.p = state[1]
        self.t = state[2]
        self.training = False


class Rich(nn.Module):
    """Every kind of attribute: parameters, buffers, views, shared and half-precision tensors, values, modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.w = nn.Parameter(torch.arange(2.0))
        self.tied = self.conv.weight
        self.register_buffer("passing", torch.arange(3), persistent=False)
        self.register_buffer("view", torch.arange(12.0)[2:10:2].reshape(2, 2).T)
        self.register_buffer("nothing", torch.empty(0, 3))
        self.register_buffer("none", None)
        self.register_buffer("seen", torch.tensor([True, False]))
        self.register_buffer("expanded", torch.arange(5).expand(2, -1))
        self.plain = torch.ones(5)
        self.perhaps = torch.jit.Attribute(torch.ones(2), Tensor | None)
        self.sizes, self.tensors, self.counts = [1, 2], [torch.ones(1)], {"a": 1}
        self.share, self.word, self.where = 0.5, "x", torch.device("cpu")
        self.small = nn.Linear(3, 2).half()
        self.inside = nn.ModuleList([nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1).to(torch.bfloat16))])

    def forward(self, x: Tensor) -> Tensor:
        more = self.passing.sum() + self.view.sum() + self.inside[0].weight.sum() + self.small.weight.sum()
        return self.norm(self.conv(x)) + self.w.sum() + self.tied.sum() + self.plain.sum() + self.share + more


class Quantised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.register_buffer("q", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.q.dequantize()


def scripted(module: nn.Module, path: Path) -> Path:
    """Write a module as `torch.jit.script` makes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
    return path


def traced(module: nn.Module, example: Tensor, path: Path) -> Path:
    """Write a module as `torch.jit.trace` makes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, example).save(str(path))
    return path


def jit_loaded(path: Path) -> dict[str, Tensor]:
    """Return what torch itself makes of an archive, which it runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(torch.jit.load(str(path)).state_dict())


def hostile(folder: Path) -> tuple[Path, Path]:
    """Write an archive that overwrites another file when torch loads it, and that file; return both."""
    target = folder / "start-up"
    target.write_text("as it was, and longer than what is written over it\n")
    return scripted(Overwrites(str(target)).eval(), folder / "ldm.pth"), target


def changed(path: Path, change: Mapping[str, Callable[[bytes], bytes]], to: Path) -> Path:
    """Write an archive again, its entries that end so changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            for end, made in change.items():
                content = made(content) if entry.filename.endswith(end) else content
            new.writestr(entry.filename, content)
    return to


LINE = 'class M(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n  w : Tensor\n'


def by_hand(path: Path, pickled: bytes, storage: bytes = bytes(16), code: str = LINE, **more: bytes) -> Path:
    """Write an archive whose pickle is given, with the class M and one storage, 0."""
    entries = {
        "code/__torch__.py": code.encode(),
        "data/0": storage,
        "data.pkl": pickled,
        "constants.pkl": b"\x80\x02).",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (entries | more).items():
            archive.writestr(f"a/{name}", content)
    return path


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tensor(
    *size: int, stride: tuple[int, ...] = (), offset: int = 0, numel: int = 4, key: str = "0", kind: str = "Float"
) -> bytes:
    """Return the operations that put a tensor onto the stack."""
    stored = (
        b"(" + word("storage") + f"ctorch\n{kind}Storage\n".encode() + word(key) + word("cpu") + number(numel) + b"t"
    )
    sizes, strides = (b"(" + b"".join(map(number, each)) + b"t" for each in (size, stride or (1,) * len(size)))
    made = b"(" + stored + b"Q" + number(offset) + sizes + strides + b"\x89" + b"ccollections\nOrderedDict\n)Rt"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + made + b"R"


def module(**attributes: bytes) -> bytes:
    """Return the pickle of an object of the class M."""
    pairs = b"".join(word(name) + value for name, value in attributes.items())
    return b"\x80\x02c__torch__\nM\n)\x81}(" + pairs + b"ub."
