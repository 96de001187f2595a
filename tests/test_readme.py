"""README's commands are run: imports on a tiny tree, sweeps as dry runs, the rest as far as their help."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from upath import UPath

from dfloc.cli import cli
from tests.sweep.test_prepare import as_dolos

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
LINES = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line.removeprefix(".venv/bin/dfloc ") for line in LINES if line.startswith(".venv/bin/dfloc ")]


def words(command: str, places: dict[str, str]) -> list[str]:
    return [places.get(word, word) for word in shlex.split(command)]


def test_every_kind_of_command_is_shown() -> None:
    assert {command.split()[0] for command in COMMANDS} == {
        *("sweep", "report", "ui", "data"),
        *("predict", "evaluate", "import-checkpoint", "doctor"),
    }
    assert {"make quickstart", "make test"} <= set(LINES)
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{line.split()[1]}: " in makefile for line in LINES if line.startswith("make "))


def as_list(folder: Path, images: Path) -> None:
    """Put images into a folder with masks of the labels 0, 1 and 2, and a list of both and their splits."""
    folder.mkdir()
    rows = []
    for number, path in enumerate(sorted(images.iterdir())):
        labels = np.zeros(Image.open(path).size[::-1], np.uint8)
        labels[:8, :8], labels[8:16, :8] = 1, 2
        Image.fromarray(labels).save(folder / f"{path.stem}_labels.png")
        shutil.copy(path, folder)
        rows.append(f"{path.name},{path.stem}_labels.png,{'train' if number else 'test'}\n")
    (folder / "list.csv").write_text("".join(["image,mask,split\n", *rows]))


@pytest.mark.ray
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_readme_says(
    command: str, tmp_path: Path, tiny_tree: Path, tiny_shards: UPath, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for path in (tiny_tree / "tiny/fake/blur" / part).rglob("*.png"):
            shutil.copy(path, tmp_path / part)
    reads_shards = command.startswith(("sweep", "data check"))
    if "DOLOS" in command:
        as_dolos(tiny_tree, blur="ldm", noise="lama")
    if "LIST" in command:
        as_list(tmp_path / "list", tmp_path / "images")
    places = {"TREE": str(tiny_tree), "DOLOS": str(tiny_tree), "IMAGES": "images", "MASKS": "masks", "LIST": "list"}
    command = command.replace("PAIR,", f"{tmp_path},").replace("LIST/", "list/")
    places["shards/mine"] = tiny_shards.path if reads_shards else "shards"
    asked = words(command, places)
    extra = {"sweep": ["--dry-run", "--workspace", "w"], "data": []}.get(asked[0], ["--help"])
    if "DOLOS" in command and asked[0] == "sweep":
        extra += ["--limit", "1"]
    if "shards/mine" in command and asked[0] == "sweep":
        extra += ["--set", "domains=data", "--limit", "3"]
    result = CliRunner().invoke(cli, [*asked, *extra])
    assert result.exit_code == 0, f"{result.output}\n{result.exception}"
    if asked[0] == "sweep":
        assert re.search(r"^\d+ to run: ", result.output, re.M)
    if asked[:2] == ["data", "import"]:
        assert re.search(r"[1-9]\d* images imported", result.output)
