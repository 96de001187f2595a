import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from dfloc.errors import ConfigError, DataError
from dfloc.models.tensors import DTYPES, check_finite, digest, read, some

STATE = {"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(7), "half": torch.ones(4, dtype=torch.float16)}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for name, value in STATE.items():
            self.register_buffer(f"x_{name[0]}", value)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.x_b + self.x_a + self.x_h[0]


class Evil:
    """Leaves a file behind where something unpickles it."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in expected.items()
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ""])
def test_safetensors_by_any_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    safetensors.torch.save_file(STATE, path)
    assert same(read(str(path)), STATE)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "nest",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state, "feature_layer": "layer20", "decoder_type": "conv-20", "total_steps": 9},
        lambda state: {"state_dict": {"model": state}},
        lambda state: state | {"input_resolution": 224},
    ],
)
def test_state_dicts_bare_and_in_checkpoints(tmp_path: Path, nest: object, zipped: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save(nest(STATE), path, _use_new_zipfile_serialization=zipped)
    assert same(read(str(path)), STATE)


def archive(path: Path) -> Path:
    torch.jit.script(Network()).save(str(path))
    return path


def test_torchscript(tmp_path: Path) -> None:
    expected = {f"x_{name[0]}": value for name, value in STATE.items()}
    assert same(read(str(archive(tmp_path / "weights.pt"))), expected)


def test_a_url_is_fetched() -> None:
    with fsspec.open("memory://weights/one.safetensors", "wb") as file:
        file.write(safetensors.torch.save(STATE))
    assert same(read("memory://weights/one.safetensors"), STATE)
    with pytest.raises(ConfigError, match=r"weights memory://weights/two\.pt cannot be fetched: FileNotFoundError"):
        read("memory://weights/two.pt")
    with pytest.raises(ConfigError, match=r"weights nowhere://two\.pt cannot be fetched: ValueError"):
        read("nowhere://two.pt")


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("form", ["safetensors", "zip", "old", "torchscript"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_cut_in_half_is_one_line(tmp_path: Path, form: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if form == "torchscript":
        archive(path)
    elif form == "safetensors":
        safetensors.torch.save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(DataError) as told:
        read(str(cut(path)))
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty; fetch it again"),
        (b"<html>404</html>" * 9, "damaged|cannot be read"),
        (b"\0" * 100, "damaged|cannot be read"),
        (b"PK\3\4" + b"x" * 100, "cannot be read"),
        (b"\xff" * 8 + b"{" + b"x" * 100, "cannot be read"),
        (pickle.dumps([1, 2], protocol=2), "damaged|cannot be read"),
    ],
)
def test_what_is_no_file_of_weights(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as told:
        read(str(path))
    assert "\n" not in str(told.value)


def header(text: bytes, size: int | None = None) -> bytes:
    return (len(text) if size is None else size).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}') + bytes(4),
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}}') + bytes(4),
        header(b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
        header(b'{"a":' * 2000 + b"1" + b"}" * 2000),
        header(b"{}", (1 << 63) - 1),
        header(b"{}", 1 << 40),
        header(b'{"a":1}'),
        header(b"{\xff}"),
        pickle.dumps({"a": torch.float32, "b": pickle.PickleBuffer}, protocol=2),
        b"\x80\x02" + pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)[2:] + b"\x80\x02.",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.",
        b"PK\5\6" + bytes(18),
        b"storages" + bytes(1 << 10),
    ],
)
def test_headers_that_lie_are_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(DataError) as told:
        read(str(path))
    assert "\n" not in str(told.value)


class DeniedError(Exception):
    """What a library of its own kind raises."""


def test_whatever_a_library_of_addresses_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise DeniedError("no credentials\nfor this bucket")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "get_file", denied)
    with pytest.raises(ConfigError, match=r"weights memory://one\.pt cannot be fetched: DeniedError: no credentials$"):
        read("memory://one.pt")


def test_neither_a_folder_nor_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file, but it is a folder"):
        read(str(tmp_path))
    with pytest.raises(ConfigError, match=r"weights .*none.pt: expected a file, but it is missing"):
        read(str(tmp_path / "none.pt"))


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.pt")
    with pytest.raises(ConfigError, match="expected a file, but it is no regular file"):
        read(str(tmp_path / "fifo.pt"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_is_known_by_its_first_bytes_whatever_its_name(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.safetensors"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    assert same(read(str(path)), STATE)


def test_a_zip_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    with pytest.raises(DataError, match=r"a zip archive of word/document\.xml, not torch's; expected safetensors, a"):
        read(str(path))


@pytest.mark.parametrize("numel", [116, 3])
def test_a_storage_of_another_length_than_its_entry_is_refused(tmp_path: Path, numel: int) -> None:
    """`data.pkl` says more numbers than `data/0` has: torch would go on into what lies behind."""
    torch.save({"a": torch.arange(4.0), "b": torch.arange(100.0, 200.0)}, tmp_path / "good.pt")
    writer = torch._C.PyTorchFileWriter(str(tmp_path / "bad.pt"))
    with zipfile.ZipFile(tmp_path / "good.pt") as archive:
        for name in ("data.pkl", "byteorder", "data/0", "data/1"):
            content = archive.read(f"good/{name}")
            if name == "data.pkl":
                old, new = (b"K%ctq\7QK\0K%c\x85" % (each, each) for each in (4, numel))
                assert content.count(old) == 1
                content = content.replace(old, new)
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    with pytest.raises(DataError, match=f"bad/data/0 has 16 bytes, but data.pkl says {4 * numel}"):
        read(str(tmp_path / "bad.pt"))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e8m0fnu, torch.complex64])
def test_numbers_that_no_decoder_has_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.save({"w": torch.ones(2).to(dtype)}, tmp_path / "weights.pt")
    with pytest.raises(DataError, match=r"w should be plain tensors: .*of real numbers \(no float8\)"):
        read(str(tmp_path / "weights.pt"))


@pytest.mark.parametrize("dtype", sorted(DTYPES, key=str))
def test_what_is_read_can_be_looked_at_and_digested(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.ones(2).to(dtype)}, path)
    found = read(str(path))
    check_finite(path, found)
    assert digest(found) != digest({"w": torch.zeros(2).to(dtype)})
    if dtype is torch.bfloat16:
        assert digest(found) != digest({"w": found["w"].view(torch.int16)})
        assert digest(found) == hashlib.sha256(b"w\0bfloat16\0(2,)\0" + b"\x80\x3f" * 2).hexdigest()


def test_no_object_of_a_file_is_made(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "weights.pt"
    for zipped in (True, False):
        torch.save({"a": torch.ones(1), "b": Evil(mark)}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(DataError, match="holds Python objects or is damaged; expected tensors alone"):
            read(str(path))
        assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("value", [{"a": 1}, [torch.ones(1)], torch.ones(1), {}, {"model": {}}, {"model": 3}])
def test_a_file_without_tensors_by_name(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "weights.pt")
    with pytest.raises(DataError, match="no tensors by name are in it; expected a network's state dict"):
        read(str(tmp_path / "weights.pt"))


def test_digest_is_sha256_over_what_the_tensors_say() -> None:
    total = hashlib.sha256()
    for name, array in (
        ("a", np.array(7)),
        ("b.weight", np.arange(6, dtype="<f4").reshape(2, 3)),
        ("half", np.ones(4, "<f2")),
    ):
        total.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode() + array.tobytes())
    assert digest(STATE) == total.hexdigest()
    assert digest(dict(reversed(STATE.items()))) == digest(STATE)
    assert digest({**STATE, "b.weight": STATE["b.weight"].T.contiguous().T}) == digest(STATE)


@pytest.mark.parametrize(
    "change",
    [
        {"a": torch.tensor(8)},
        {"a": torch.tensor([7])},
        {"a": torch.tensor(7, dtype=torch.int32)},
        {"c": torch.empty(0)},
        {"b.weight": torch.arange(6.0).reshape(3, 2)},
    ],
)
def test_digest_tells_values_shapes_dtypes_and_names_apart(change: dict[str, Tensor]) -> None:
    assert digest(STATE | change) != digest(STATE)


def test_some_names() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(["a", "b", "c"]) == "a, b, ... 3 in all"
