"""TorchScript archives: the tensors that torch itself loads, and nothing of them is run."""

import shlex
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from dfloc.cli import cli
from dfloc.errors import DataError
from dfloc.features.weights import WeightsIndex
from dfloc.models import torchscript
from dfloc.models.tensors import FORMS, read
from dfloc.storage import Workspace
from tests.cases import weights as cases
from tests.cases.weights import by_hand, changed, module, number, scripted, tensor, word

DOC = (Path(__file__).parent.parent.parent / "docs/MODELS.md").read_text()


def refused(path: Path) -> str:
    with pytest.raises(DataError) as told:
        read(str(path))
    assert "\n" not in str(told.value)
    assert str(path) in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("form", ["scripted", "traced"])
def test_the_names_and_tensors_are_those_that_torch_loads(tmp_path: Path, form: str) -> None:
    network, path = cases.Rich().eval(), tmp_path / "rich.pt"
    path = scripted(network, path) if form == "scripted" else cases.traced(network, torch.ones(1, 3, 4, 4), path)
    found, expected = read(str(path)), cases.jit_loaded(path)
    assert list(found) == list(expected)
    assert {"plain", "perhaps", "tensors", "none"}.isdisjoint(found)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert (found[name].dtype, found[name].stride()) == (value.dtype, value.stride()), name
    assert found["tied"].data_ptr() == found["conv.weight"].data_ptr()
    assert found["view"].stride() == (2, 4)


def test_an_archive_that_writes_elsewhere_is_refused_with_the_way_to_convert_it_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, target = cases.hostile(tmp_path)
    before = target.read_bytes()
    workspace = Workspace(tmp_path / "workspace")
    for load in (
        lambda: cli(
            ["import-checkpoint", str(path), "--arch", "clip-vit-l14", "--workspace", str(workspace.root)],
            standalone_mode=False,
        ),
        lambda: WeightsIndex(workspace).digest("clip-rn50", str(path)),
        lambda: WeightsIndex(workspace).digest("sam2.1-tiny", str(path)),
        lambda: WeightsIndex(workspace).digest("smp:resnet18", str(path)),
        lambda: read(str(path)),
    ):
        with pytest.raises(
            DataError, match=r"__setstate__.*torch\.jit\.load\(.*/ldm\.pth.*, \"cpu\"\)\.state_dict\(\)"
        ):
            load()
        assert target.read_bytes() == before
    cases.jit_loaded(path)
    assert target.read_bytes().startswith(cases.PAYLOAD), "torch itself does write"


def test_what_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    plain = scripted(nn.Linear(2, 2), tmp_path / "plain.pt")
    said = refused(scripted(cases.Quantised(), tmp_path / "quantised.pt"))
    assert said.endswith("with numbers of the kind torch.QInt8Storage, which dfloc does not use"), "no cure: it is none"
    assert "another byte order" in refused(changed(plain, {"byteorder": lambda _: b"big"}, tmp_path / "big.pt"))
    assert "build_tensor_from_id" in refused(
        by_hand(tmp_path / "constant.pt", module(w=b"ctorch.jit._pickle\nbuild_tensor_from_id\nK\0\x85R"))
    )
    kind = tensor(2, numel=2, kind="ComplexFloat")
    assert "torch.ComplexFloatStorage" in refused(by_hand(tmp_path / "complex.pt", module(w=kind)))
    own = module(w=tensor(4), x=b"c__torch__.torch.classes.quantized\nPacked\n)\x81}b")
    assert "the class __torch__.torch.classes.quantized.Packed" in refused(by_hand(tmp_path / "class.pt", own))


def test_the_command_that_converts_runs_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / 'a folder\'s "own"'
    folder.mkdir()
    path, _ = cases.hostile(folder)
    path = path.rename(folder / "l'd m.pt")
    monkeypatch.chdir(folder)
    with pytest.raises(DataError) as told:
        read(path.name)
    words = shlex.split(str(told.value).partition("where you trust it: ")[2])
    assert words[:2] == ["python", "-c"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(words[2])
    assert list(read("out.pt")) == list(cases.jit_loaded(path))


def test_nothing_that_a_pickle_names_is_imported_or_called(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for call in (
        b"cposix\nsystem\n" + word(f"touch {mark}") + b"\x85R",
        b"cpathlib\nPath.touch\ncpathlib\nPath\n" + word(str(mark)) + b"\x85R\x85R",
        b"cbuiltins\neval\n" + word(f"open({str(mark)!r}, 'w')") + b"\x85R",
        b"(S'touch'\nios\nsystem\n",
    ):
        assert "does not run or know" in refused(by_hand(tmp_path / "evil.pt", module(w=tensor(4), x=call)))
    assert not mark.exists()


BOUNDS = {
    "size": tensor(5),
    "stride": tensor(2, stride=(4,)),
    "negative stride": tensor(2, stride=(-1,), offset=1),
    "offset": tensor(1, offset=4),
    "negative offset": tensor(1, offset=-1),
    "more than is stored": tensor(8, numel=8),
    "less than is stored": tensor(2, numel=2),
    "huge": tensor(1 << 62, 8, numel=4),
    "larger than the file": tensor(1 << 40, stride=(0,)),
    "no such storage": tensor(4, key="1"),
    "elsewhere": tensor(4, key="../../data/0"),
    "a word for a size": tensor(4).replace(number(4) + b"t", word("4") + b"t"),
    "no storage": b"ctorch._utils\n_rebuild_tensor_v2\n(NK\0))\x89}tR",
}


@pytest.mark.parametrize("case", BOUNDS)
def test_a_tensor_beyond_its_numbers_is_refused(case: str, tmp_path: Path) -> None:
    stored, good = torch.arange(4.0).numpy().tobytes(), module(w=tensor(2, stride=(2,), offset=1))
    assert read(str(by_hand(tmp_path / "good.pt", good, stored)))["w"].tolist() == [1, 3]
    refused(by_hand(tmp_path / "bad.pt", module(w=BOUNDS[case])))


def nested(depth: int) -> bytes:
    return b")" + b"\x85" * depth


BOMBS = {
    "a module inside itself": b"\x80\x02c__torch__\nM\n)\x81q\0}(" + word("m") + b"h\0ub.",
    "two of each of two": b"\x80\x02"
    + b"".join(
        b"c__torch__\nM\n)\x81}("
        + word("a")
        + (b"h%c" % (k - 1) if k else b"N")
        + word("b")
        + (b"h%c" % (k - 1) if k else b"N")
        + b"ubq%c" % k
        for k in range(60)
    )
    + b".",
    "a place far out": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a large array": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "a deep name": module(w=b"}" + nested(100_000) + b"Ns"),
    "a deep value": module(w=tensor(4), x=nested(100_000)),
    "a deep key": module(w=tensor(4).replace(word("0"), nested(100_000))),
    "state of no object": b"\x80\x02}}b.",
    "nothing": b".",
    "empty": b"",
    "marks": b"\x80\x02tu.",
    "many values": b"\x80\x02" + b"]" * (torchscript.MAX_TEXT - 3) + b".",
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_pickle_that_would_fill_or_crash_what_reads_it_is_refused(case: str, tmp_path: Path) -> None:
    path = by_hand(tmp_path / "bomb.pt", BOMBS[case])
    if case == "a deep value":
        assert read(str(path))["w"].tolist() == [0] * 4
    else:
        refused(path)


def test_an_archive_that_is_not_as_torch_writes_it_is_refused(tmp_path: Path) -> None:
    pickled, path = module(w=tensor(4)), tmp_path / "odd.pt"
    with zipfile.ZipFile(by_hand(path, pickled), "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a/data/0", bytes(range(16)))
    assert "a name is twice in it" in refused(path)
    with zipfile.ZipFile(by_hand(path, pickled), "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data/1", bytes(1 << 20))
    assert "a/data/1 is compressed" in refused(path)
    with zipfile.ZipFile(by_hand(path, pickled), "a", zipfile.ZIP_DEFLATED) as archive:
        for number_of in range(5):
            archive.writestr(f"a/code/{number_of}.py", bytes(torchscript.MAX_TEXT))
    assert "larger than the file" in refused(path)
    by_hand(path, pickled, bytes(range(16)))
    content = bytearray(path.read_bytes())
    content[content.index(bytes(range(16))) + 3] ^= 0x40
    path.write_bytes(content)
    assert "a/data/0 is not what was written" in refused(path)


def test_a_file_of_torch_whose_numbers_have_changed_is_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "weights.pt", {"w": torch.arange(100.0)}
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    content[content.index(state["w"].numpy().tobytes()) + 41] ^= 0x40
    path.write_bytes(content)
    assert "data/0 is not what was written" in refused(path)
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, path)
    assert path.stat().st_size < 10_000
    assert "w should be plain tensors" in refused(path)


def test_checksums_that_were_not_written_are_not_asked_for(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.arange(3.0)}, tmp_path / "weights.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read(str(tmp_path / "weights.pt"))["w"].tolist() == [0, 1, 2]


def test_the_forms_are_listed_in_the_docs() -> None:
    for form, words in FORMS.items():
        assert f"| {form} | {words} |" in DOC
