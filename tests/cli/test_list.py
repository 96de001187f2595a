import re
from typing import get_args

from click.testing import CliRunner

from dfloc import registry
from dfloc.cli.list import KINDS, SAYS, list_names
from dfloc.config import Task
from dfloc.data.augment import NAMED
from dfloc.sweep.sweep_file import shipped


def lines(*args: str) -> list[str]:
    result = CliRunner().invoke(list_names, args)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_every_kind_is_listed_under_its_name() -> None:
    assert [line.rstrip(":") for line in lines() if not line.startswith(" ")] == list(KINDS)


def test_sweeps_are_those_of_the_folder_with_their_titles() -> None:
    found = lines("sweeps")
    assert found[0] == "sweeps:"
    assert [line.split()[0] for line in found[1:]] == sorted(shipped())
    assert any(line.split()[0] == "exposure" and "How many samples" in line for line in found)


def test_backbones_with_maps_and_shapes() -> None:
    found = {line.split()[0]: line for line in lines("backbones")[1:]}
    assert found.keys() == {*registry.BACKBONES, "clip:<model>"} - {"sam-tiny-224"}
    assert "projected 768" in found["clip-vit-l14"]
    assert "layer0" in registry.backbone(re.findall(r"clip:[\w-]+", found["clip:<model>"])[0]).maps
    assert "input 256, weights none: stats 66x32x32, absolute 33x32x32, variance 1x32x32" in found["srm"]
    assert "layer20 1024x16x16" in found["clip-vit-l14"]
    assert found["pixels"].endswith("input 256, weights none: 3x256x256")


def test_decoders_and_losses() -> None:
    decoders = [line.strip() for line in lines("decoders")[1:]]
    built_in = {"all-fake", "attention", "conv", "linear", "mean-mask", "prior", "smp", "threshold", "timm", "xception"}
    assert decoders == sorted(built_in | {"small", "small-attention", "xception-attention", "xception-fcn"})
    losses = [line.strip() for line in lines("losses")[1:]]
    assert losses == ["attention", "bce", "ce", "dice", "focal", "jaccard", "lovasz", "sum"]


def test_augmentations_with_what_they_do_and_protocols() -> None:
    augmentations = {line.split()[0]: line for line in lines("augmentations")[1:]}
    assert augmentations.keys() == {*NAMED}
    assert "blur(probability=0.5, sigma=0-3)" in augmentations["blur"]
    assert [line.strip() for line in lines("protocols")[1:]] == [
        *("declip-2025", "dfloc-1", "dolos-2024", "image-1", "thesis-2025")
    ]


def test_domains_tell_the_built_in_ones_apart() -> None:
    found = lines("domains")[1:]
    assert "  mini/telea  (built in)" in found
    assert {"  celebahq/ldm", "  celebahq/lama"} <= set(found)


def test_tasks_say_what_fits_them() -> None:
    found = [line.strip() for line in lines("tasks")[1:]]
    starts = {
        line.split()[0]: place for place, line in enumerate(found) if not line.split()[0].endswith((":", "selected"))
    }
    assert [*starts] == [*get_args(Task)] == [*SAYS]
    parts = {task: dict(line.split(":", 1) for line in found[place + 1 : place + 5]) for task, place in starts.items()}
    fits = {task: {key: value.strip().split(", ") for key, value in part.items()} for task, part in parts.items()}
    assert fits["detect"]["decoders"] == sorted(registry.DECODER_GIVES)
    assert fits["detect"]["losses"] == ["attention", "ce", "sum"]
    assert fits["attribute"]["protocols"] == ["image-1", "thesis-2025"]
    assert not {"prior", "small", "timm"} & {*fits["localize"]["decoders"]}, "they answer once an image"
    assert {"linear", "conv"} <= {*fits["localize"]["decoders"]}
    assert not {"attention", "ce"} & {*fits["localize"]["losses"]}
    assert fits["localize"]["selected by"] == ["iou", "loss", "last"]


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(list_names, ["backbone"])
    assert result.exit_code == 2
    assert "'backbone' is not one of" in result.output
