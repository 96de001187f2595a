"""The index of weights for encoders of segmenters: a word's digest, what a worker loads by it, and a changed file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.features.weights import WeightsIndex
from dfloc.models import encoders
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory

NAME = "mobilenet_v2"
KEY = f"smp:{NAME}"
SPEC = DecoderSpec(name="smp", architecture="fpn", encoder=NAME)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def written(path: Path, seed: int) -> dict[str, torch.Tensor]:
    state = {name: value for name, value in encoders.weights(NAME, f"random:{seed}").items() if "." in name}
    save_file(state, path)
    return state


def test_a_file_is_read_once_and_loaded_again_by_its_digest(workspace: Workspace, tmp_path: Path) -> None:
    state = written(tmp_path / "encoder.safetensors", 1)
    said: list[str] = []
    word = str(tmp_path / "encoder.safetensors")
    digests = {WeightsIndex(workspace).digest(KEY, word, on_load=said.append) for _ in range(2)}
    [digest] = digests
    assert len(digest) == 64
    assert said == [f"reading the weights of {KEY} ({word})"]
    found = WeightsIndex(workspace).encoder(NAME, digest)
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert {"mean", "std"} == found.keys() - state.keys()


def test_the_same_tensors_are_the_same_weights_and_others_are_not(workspace: Workspace, tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        written(tmp_path / f"{name}.safetensors", seed)
        digests.append(WeightsIndex(workspace).digest(KEY, str(tmp_path / f"{name}.safetensors")))
    assert digests[0] == digests[1] != digests[2]


def test_a_file_that_changed_after_the_plan_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    word = str(tmp_path / "encoder.safetensors")
    written(tmp_path / "encoder.safetensors", 1)
    index = WeightsIndex(workspace)
    digest = index.digest(KEY, word)
    written(tmp_path / "encoder.safetensors", 2)
    with pytest.raises(WorkspaceError, match=f"the weights of {KEY} .* have changed: .* planned with {digest[:12]}"):
        index.encoder(NAME, digest)
    assert index.digest(KEY, word) != digest


def test_a_digest_that_nobody_knows_is_refused(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=f"the weights aaaaaaaaaaaa of {KEY} are not known"):
        WeightsIndex(workspace).encoder(NAME, "a" * 64)


def test_weights_of_a_seed_are_drawn_again(workspace: Workspace) -> None:
    index = WeightsIndex(workspace)
    assert index.digest(KEY, "random:7") == "random:7"
    found, again = (index.encoder(NAME, "random:7") for _ in range(2))
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_a_plan_knows_them_by_digest_by_word_where_nothing_is_loaded_or_not_at_all(
    workspace: Workspace, tmp_path: Path
) -> None:
    word = str(tmp_path / "encoder.safetensors")
    written(tmp_path / "encoder.safetensors", 1)
    known = Inventory(workspace)
    digest = known.encoder(SPEC.model_copy(update={"weights": word}))
    assert digest == WeightsIndex(workspace).digest(KEY, word)
    assert known.words[digest] == word
    assert known.encoder(SPEC) is known.encoder(SPEC.model_copy(update={"weights": "random"})) is None
    dry = Inventory(Workspace(tmp_path / "other"), load=False)
    assert dry.encoder(SPEC.model_copy(update={"weights": "imagenet"})) == "imagenet"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": "imagnet"}, 'unknown weights of mobilenet_v2 "imagnet"; did you mean "imagenet"'),
        ({"encoder": "mobilenet"}, 'unknown encoder "mobilenet"; did you mean "mobilenet_v2"'),
        ({"architecture": "fnp"}, 'unknown architecture "fnp"; did you mean "fpn"'),
        ({"architecture": "unetplusplus", "encoder": "mit_b0"}, "unetplusplus cannot be built on the encoder mit_b0"),
    ],
)
def test_a_plan_refuses_what_there_is_not(workspace: Workspace, changes: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Inventory(workspace).encoder(SPEC.model_copy(update=changes))
