"""The index of weights: a word is looked into once, a changed file again, and a digest is loaded or refused."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dfloc import plugin, storage
from dfloc.errors import ConfigError, DflocError, WorkspaceError
from dfloc.features.weights import WeightsIndex
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory

TOY = """
import hashlib, pathlib
from safetensors.torch import load_file
from dfloc.errors import ConfigError
from dfloc.registry import BackboneRow, MapSpec

ROW = BackboneRow("make", {"mean": MapSpec(1, 4, 4)}, 8, "pil-bilinear", "hub")


class Toy:
    maps = ROW.maps

    def __init__(self, weights):
        log = pathlib.Path(LOG)
        log.write_text(log.read_text() + weights + "\\n" if log.exists() else weights + "\\n")
        if weights == "hub":
            self.digest = "ab" * 32
        elif weights.startswith("random:"):
            self.digest = weights
        elif pathlib.Path(weights).is_file():
            self.digest = hashlib.sha256(load_file(weights)["scale"].numpy().tobytes()).hexdigest()
        else:
            raise ConfigError("no weights " + weights)


def make(name, weights, device):
    return Toy(weights)


BACKBONES = {"toy": ROW}
"""


class Toys:
    """An index, the toy's files, and which words the toy was made with."""

    def __init__(self, folder: Path):
        self.workspace = Workspace(folder / "workspace")
        self.index = WeightsIndex(self.workspace)
        self.log = folder / "log"
        self.file = folder / "toy.safetensors"
        plugin.use((plugin.Plugin("toy.py", TOY.replace("LOG", repr(str(self.log)))),))
        [one] = plugin.registry.plugins()
        self.plugin = one.digest

    def write(self, value: float, path: Path | None = None) -> str:
        scale = torch.full((3,), value)
        save_file({"scale": scale}, path or self.file)
        return hashlib.sha256(scale.numpy().tobytes()).hexdigest()

    @property
    def made(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[Toys]:
    yield Toys(tmp_path)
    plugin.use(())


def test_a_word_is_looked_into_once(toys: Toys) -> None:
    said: list[str] = []
    for index in (toys.index, toys.index, WeightsIndex(toys.workspace)):
        assert index.digest("toy", "hub", on_load=said.append) == "ab" * 32
    assert toys.made == ["hub"]
    assert said == ["reading the weights of toy (hub)"]


def test_without_leave_to_load_an_unknown_word_stands_for_itself(toys: Toys) -> None:
    assert toys.index.digest("toy", "hub", load=False) == "hub"
    assert toys.made == []
    assert not list(toys.workspace.root.iterdir())
    toys.index.digest("toy", "hub")
    assert toys.index.digest("toy", "hub", load=False) == "ab" * 32


def test_a_file_is_looked_into_again_when_it_has_changed(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    first = toys.write(1.0)
    assert toys.index.digest("toy", str(toys.file)) == first
    monkeypatch.chdir(toys.file.parent)
    assert toys.index.digest("toy", toys.file.name) == first, "a relative path names the same file"
    assert len(toys.made) == 1
    before = toys.file.stat()
    second = toys.write(2.0)
    os.utime(toys.file, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))  # within the same second
    assert toys.file.stat().st_size == before.st_size
    assert toys.index.digest("toy", str(toys.file)) == second != first


def test_a_file_below_the_home_folder_is_looked_into_again_too(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(toys.file.parent))
    first = toys.write(1.0)
    assert toys.index.digest("toy", "~/toy.safetensors") == first
    assert toys.made == [str(toys.file)], "a worker's home may be another one"
    second = toys.write(2.0)
    assert toys.index.digest("toy", "~/toy.safetensors") == second


@pytest.mark.parametrize("word", ["s3://bucket/toy.pt", "nowhere://toy.pt", "~nobody-of-this-name/toy.pt"])
def test_a_place_that_cannot_be_looked_at_is_one_error(toys: Toys, word: str) -> None:
    with pytest.raises(ConfigError, match=f"weights {word} cannot be looked at: .*") as raised:
        toys.index.digest("toy", word)
    assert "\n" not in str(raised.value)


def test_another_plug_in_or_what_was_refused_is_looked_into_again(toys: Toys) -> None:
    assert toys.index.digest("toy", "hub") == "ab" * 32
    [one] = plugin.registry.plugins()
    plugin.use((plugin.Plugin("toy.py", one.text.replace('"ab" * 32', '"cd" * 32')),))
    assert toys.index.digest("toy", "hub") == "cd" * 32

    [record] = toys.workspace.weights.glob("*.json")
    known = storage.get_json(record)
    del known["sealed"]
    storage.put_json(record, known | {"digest": "ef" * 32})  # the library's file of the tag was another one then
    assert toys.index.digest("toy", "hub") == "ef" * 32
    with pytest.raises(WorkspaceError, match=r"have changed: .* or start the sweep again with these"):
        toys.index.make("toy", "ef" * 32, "cpu", known["plugin"])
    assert toys.index.digest("toy", "hub") == "cd" * 32


def test_a_record_of_weights_of_which_one_letter_changed_is_refused(toys: Toys) -> None:
    digest = toys.index.digest("toy", "hub")
    assert toys.index.source("toy", digest) == "hub"
    [record] = toys.workspace.weights.glob("*.json")
    record.write_text(record.read_text().replace('"hub"', '"hut"'))
    with pytest.raises(WorkspaceError, match="is damaged: not what was written"):
        toys.index.source("toy", digest)


def test_random_weights_are_their_seed_and_are_not_loaded(toys: Toys) -> None:
    assert [toys.index.digest("toy", word) for word in ("random", "random:0", "random:07")] == [
        "random:0",
        "random:0",
        "random:7",
    ]
    assert toys.made == []
    assert toys.index.make("toy", "random:7", "cpu", toys.plugin).digest == "random:7"


def test_a_digest_is_made_from_where_it_came_from_and_other_weights_are_refused(toys: Toys) -> None:
    digest = toys.index.digest("toy", "hub")
    assert toys.index.make("toy", digest, "cpu", toys.plugin).digest == digest
    digest = toys.write(1.0)
    toys.index.digest("toy", str(toys.file))
    toys.write(2.0)
    with pytest.raises(WorkspaceError, match=rf"weights of toy .*have changed: .*with {digest[:12]}; put the old"):
        toys.index.make("toy", digest, "cpu", toys.plugin)
    with pytest.raises(WorkspaceError, match="weights cdcdcdcdcdcd of toy are not known"):
        toys.index.make("toy", "cd" * 32, "cpu", toys.plugin)
    with pytest.raises(ConfigError, match="is of a plug-in with digest"):
        toys.index.make("toy", "random:0", "cpu", "0" * 64)


def test_of_two_words_for_one_digest_the_one_that_is_still_there_is_taken(toys: Toys) -> None:
    other = toys.file.with_name("other.safetensors")
    digest = toys.write(1.0)
    toys.write(1.0, other)
    for path in (toys.file, other):
        toys.index.digest("toy", str(path))
    for gone, left in ((toys.file, other), (other, toys.file)):
        gone.rename(gone.with_suffix(".away"))
        assert toys.index.source("toy", digest) == str(left)
        gone.with_suffix(".away").rename(gone)


def test_a_tower_out_of_a_checkpoint_is_kept_and_named_by_its_digest(toys: Toys) -> None:
    scale = torch.full((3,), 5.0)
    digest = hashlib.sha256(scale.numpy().tobytes()).hexdigest()
    toys.index.keep("toy", digest, {"scale": scale})
    assert toys.index.make("toy", digest, "cpu", toys.plugin).digest == digest
    assert toys.index.digest("toy", digest) == digest, "a sweep can name it"
    kept = toys.workspace.weights / f"{digest}.safetensors"
    before = kept.stat().st_mtime_ns
    toys.index.keep("toy", digest, {"scale": scale})
    assert kept.stat().st_mtime_ns == before
    kept.unlink()
    toys.index.keep("toy", digest, {"scale": scale})
    assert toys.index.make("toy", digest, "cpu", toys.plugin).digest == digest, "the same checkpoint mends what is gone"


def test_a_kept_tower_is_found_where_the_workspace_was_moved_to(toys: Toys) -> None:
    scale = torch.full((3,), 5.0)
    digest = hashlib.sha256(scale.numpy().tobytes()).hexdigest()
    toys.index.keep("toy", digest, {"scale": scale})
    moved = Path(toys.workspace.root.path).rename(toys.file.parent / "moved")
    index = WeightsIndex(Workspace(moved))
    assert index.source("toy", digest) == str(moved / "weights" / f"{digest}.safetensors")
    assert index.make("toy", digest, "cpu", toys.plugin).digest == digest


def test_damaged_records_and_missing_weights_are_one_error(toys: Toys) -> None:
    with pytest.raises(DflocError, match="no weights nowhere"):
        toys.index.digest("toy", "nowhere")
    toys.index.digest("toy", "hub")
    [path] = toys.workspace.weights.glob("*.json")
    storage.put(path, path.read_bytes()[:20])
    with pytest.raises(WorkspaceError, match=r"is no JSON .*delete it"):
        toys.index.digest("toy", "hub")


def test_a_backbone_that_says_no_digest_is_refused(toys: Toys) -> None:
    text = TOY.replace("self.digest =", "self.other =").replace("LOG", repr(str(toys.log)))
    plugin.use((plugin.Plugin("toy.py", text),))
    with pytest.raises(ConfigError, match="says no digest of its weights; add the attribute `digest`"):
        toys.index.digest("toy", "hub")


def test_none_is_no_word_for_the_weights_of_a_backbone_that_has_some(toys: Toys) -> None:
    assert toys.index.digest("srm", "none") == "none"
    with pytest.raises(ConfigError, match="no weights none"):
        toys.index.digest("toy", "none")


def test_what_was_made_with_a_file_stays_valid_without_it(toys: Toys) -> None:
    digest = toys.write(1.0)
    toys.index.digest("toy", str(toys.file))
    toys.file.unlink()
    assert toys.index.digest("toy", str(toys.file)) == digest
    with pytest.raises(ConfigError, match="no weights "):
        toys.index.make("toy", digest, "cpu", toys.plugin)


def test_a_file_with_the_name_of_a_tag_is_told_by_its_path(toys: Toys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toys.file.parent)
    digest = toys.write(1.0, toys.file.with_name("hub"))
    known = Inventory(toys.workspace)
    assert known.digest("toy", "hub") == digest
    assert known.words == {digest: str(toys.file.with_name("hub"))}, "a table that requires the tag must not take it"
