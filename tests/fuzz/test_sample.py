"""A sample of `make fuzz`, and proof that each part of it can fail."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from upath import UPath

from dfloc import storage
from dfloc.errors import ConfigError, DataError
from tests.fuzz import __main__ as fuzz
from tests.fuzz import command, images, mutate, stored, sweeps, weights
from tests.fuzz.harness import Case, Part, WrongError, judge, run, shrunk

SAMPLES = {images.PART: 200, images.ARRAYS: 100, weights.PART: 120, stored.PART: 150, sweeps.PART: 12, command.PART: 4}


@pytest.fixture(scope="module", autouse=True)
def cleared() -> Iterator[None]:
    yield
    stored.remove()
    command.remove()
    sweeps.remove()
    weights.CANARY.unlink(missing_ok=True)


@pytest.mark.parametrize("part", SAMPLES, ids=lambda part: part.name)
def test_a_sample_is_refused_or_right(part: Part) -> None:
    result = run(part, 1, SAMPLES[part])
    assert result.faults == []
    assert result.count == SAMPLES[part]
    assert result.words["refused"] < result.count, "some are right"


@pytest.mark.parametrize("part", SAMPLES, ids=lambda part: part.name)
def test_a_case_is_the_same_each_time(part: Part) -> None:
    first, again = (part.make(Random("7")) for _ in range(2))
    other = part.make(Random("8"))
    assert (first.name, first.data) == (again.name, again.data) != (other.name, other.data)


def _reads(word: str | BaseException) -> Callable[[bytes], str]:
    def read(data: bytes) -> str:
        if isinstance(word, BaseException):
            raise word
        return word

    return read


@pytest.mark.parametrize(
    ("came", "word"),
    [
        ("right", "right"),
        (DataError("no image"), "refused"),
        (DataError("\n".join("four")), "said"),
        (DataError(""), "said"),
        (KeyError("a"), "raised"),
        (RecursionError(), "raised"),
        (WrongError("other pixels"), "wrong"),
    ],
)
def test_what_comes_of_a_case_is_judged(came: str | BaseException, word: str) -> None:
    assert judge(Case("a", b"", _reads(came))).word == word


def test_a_warning_is_a_fault() -> None:
    def read(data: bytes) -> str:
        np.array([1.0]) / np.array([0.0])
        return "right"

    assert judge(Case("a", b"", read)).word == "said"


def test_a_slow_case_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.harness.SLOW", -1.0)
    assert judge(Case("a", b"", _reads("right"))).word == "slow"


def test_the_smallest_input_is_kept(tmp_path: Path) -> None:
    def read(data: bytes) -> str:
        if b"bad" in data:
            raise KeyError("bad")
        return "right"

    case = Case("a", b"x" * 100 + b"bad" + b"y" * 77, read)
    assert shrunk(case, judge(case)) == b"bad"
    result = run(Part("one", 1, lambda rng: case), 3, 2, tmp_path)
    assert [(number, verdict.word) for number, _, verdict in result.faults] == [(0, "raised"), (1, "raised")]
    assert (tmp_path / "one-3-1.bin").read_bytes() == b"bad"
    assert "KeyError: 'bad'" in (tmp_path / "one-3-1.txt").read_text()


def _faults(part: Part, count: int) -> dict[str, int]:
    result = run(part, 1, count)
    return {word: result.words[word] for word in ("raised", "wrong") if result.words[word]}


def test_images_that_are_read_wrongly_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = images.decode_image

    def grey_where_it_is_cut(data: bytes) -> Any:
        try:
            return real(data)
        except DataError:
            return np.full((images.HEIGHT, images.WIDTH, 3), 128, np.uint8)

    monkeypatch.setattr(images, "decode_image", grey_where_it_is_cut)
    assert _faults(images.PART, 60)["wrong"] > 2
    monkeypatch.setattr(images, "decode_image", lambda data: real(data).astype(float))
    assert _faults(images.PART, 40)["wrong"] > 5
    monkeypatch.setattr(images, "decode_image", lambda data: {}["a"])
    assert _faults(images.PART, 20)["raised"] > 15


def test_arrays_that_are_read_wrongly_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = images.external_maps.read
    monkeypatch.setattr(images.external_maps, "read", lambda path: real(path) * 2)
    assert _faults(images.ARRAYS, 60)["wrong"] > 2
    monkeypatch.setattr(images.external_maps, "read", np.load)
    assert _faults(images.ARRAYS, 60)["raised"] > 20


def test_weights_that_are_obeyed_or_read_wrongly_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(word: str) -> dict[str, torch.Tensor]:
        try:
            return torch.load(word, weights_only=False)
        except Exception as error:
            raise DataError("damaged") from error

    monkeypatch.setattr(weights.tensors, "read", trusting)
    monkeypatch.setattr(weights, "valid", lambda: {"a": weights.hostile()["ring zip"]})
    found = run(Part("one", 1, weights.PART.make), 1, 10)
    assert any("obeyed" in verdict.detail for _, _, verdict in found.faults)


def test_stored_files_that_are_not_compared_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    stored.small()

    def trusting(model: type[BaseModel], path: UPath, cure: str = "") -> BaseModel:
        fields = storage.get_json(path)
        fields.pop(storage.SEAL, None)
        return model.model_validate(fields)

    monkeypatch.setattr(storage, "get_model", trusting)
    found = _faults(stored.PART, 200)
    assert found["wrong"] > 3
    assert found["raised"] > 3


def small() -> bytes:
    return sweeps.sources()["exposure"].encode()


def test_sweep_files_that_are_read_wrongly_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = sweeps.Asked("smoke", more={"only": ("base",)})
    assert sweeps.check(small(), asked) == "right"
    real = sweeps.yaml_text.Loader.construct_object
    octal = small().replace(b"batch: 32", b"batch: 010")
    with pytest.raises(ConfigError, match=r"batch: should be a whole number.*'010'"):
        sweeps.check(octal, sweeps.Asked("paper"))

    def as_yaml_1_1(self: Any, node: Any, deep: bool = False) -> Any:
        return 8 if getattr(node, "value", None) == "010" else real(self, node, deep)

    monkeypatch.setattr(sweeps.yaml_text.Loader, "construct_object", as_yaml_1_1)
    with pytest.raises(WrongError, match=r"trial\.batch was written as 010, and read as 8"):
        sweeps.check(octal, sweeps.Asked("paper", more={"only": ("base",)}))


def test_a_merged_file_of_another_plan_and_an_order_that_counts_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = sweeps.Asked("smoke", more={"only": ("base",)})
    monkeypatch.setattr(sweeps, "merged", lambda options: small().decode())
    with pytest.raises(WrongError, match="gives another plan"):
        sweeps.check(small(), asked._replace(settings=("trial.batch=3",)))
    monkeypatch.undo()
    numbers = iter(range(9))
    plan = sweeps.plan

    def by_turn(path: Path, asked: sweeps.Asked) -> Any:
        turn = next(numbers) // 2
        return plan(path, asked._replace(settings=(f"trial.batch={turn + 1}",)))

    monkeypatch.setattr(sweeps, "plan", by_turn)
    with pytest.raises(WrongError, match="another order of keys"):
        sweeps.check(small(), asked)


def test_a_message_without_a_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def vague(path: Path, asked: sweeps.Asked) -> Any:
        raise ConfigError("something is wrong")

    monkeypatch.setattr(sweeps, "plan", vague)
    with pytest.raises(WrongError, match="no sentence with a place: something is wrong"):
        sweeps.check(small(), sweeps.Asked("smoke"))


def test_a_command_that_says_too_much_or_nothing_is_found() -> None:
    right = command.Said(0, "iou 0.5\n", "", {})
    assert command.judge(right, right) == "right"
    assert command.judge(command.Said(2, "", "Error: rows are damaged\n", {}), right) == "refused"
    for code, out, err in (
        (0, "iou 0.4\n", ""),
        (1, "", "Traceback (most recent call last)\n"),
        (2, "", "a\nb\nc\n"),
        (3, "", "Error\n"),
    ):
        with pytest.raises(WrongError):
            command.judge(command.Said(code, out, err, {}), right)


def test_the_command_ends_with_1_and_tells_the_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    parts = [Part("good", 5, lambda rng: Case("a", b"", _reads("right")))]
    monkeypatch.setattr(fuzz, "PARTS", parts)
    assert fuzz.main([]) == 0
    assert "| good | 5 | 5 | 0 | 0 | 0 | 0 |" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    parts.append(Part("bad", 4, lambda rng: Case("b", b"x", _reads(KeyError(f"k{rng.random()}")))))
    assert fuzz.main(["--seed", "5", "--first", "2", "--count", "3"]) == 1
    said = capsys.readouterr().out
    assert "3 x bad: b: raised: KeyError: 'kN.N' (--first 2 --count 1)" in said
    assert len(list(tmp_path.glob("*/bad-5-*.bin"))) == 3


@pytest.mark.parametrize("change", [*mutate.GENERAL, mutate.png_content, images.harmless])
def test_a_change_changes_a_valid_file(change: Callable[[bytes, Random], bytes]) -> None:
    data = images.valid()[0].data
    assert sum(change(data, Random(number)) != data for number in range(20)) > 10


def test_every_valid_file_is_read_or_refused_for_floats() -> None:
    odd = set()
    for name, data in images.valid():
        try:
            shape = images.decode_image(data).shape
            turned = "exif" in name or name in ("jpeg progressive", "webp alpha")
            assert {*shape[:2]} == {images.HEIGHT, images.WIDTH}, name
            assert shape[0] == images.HEIGHT or turned, name
        except DataError:
            odd.add(name)
    assert odd == {"tiff float"}
