import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from upath import UPath

from dfloc.cli import cli
from dfloc.cli.data import data
from dfloc.data.manifest import Manifest
from dfloc.data.mini import photographs
from dfloc.errors import DflocError
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from tests.cases import names
from tests.cases.originals import write_triples


def run(*words: object) -> Result:
    return CliRunner().invoke(data, [str(word) for word in words])


def refused(*words: object) -> str:
    result = run(*words)
    assert isinstance(result.exception, DflocError), result.output
    assert result.exception.exit_code == 2
    return str(result.exception)


@pytest.mark.parametrize("command", [["--help"], ["mini", "--help"], ["import", "--help"], ["check", "--help"]])
def test_help_has_an_example(command: list[str]) -> None:
    result = run(*command)
    assert result.exit_code == 0
    assert "  dfloc data " in result.output


@pytest.mark.ray
def test_mini_import_check(tmp_path: Path, ray_local: None) -> None:
    tree, shards = tmp_path / "tree", tmp_path / "shards"
    made = run("mini", "--out", tree, "--train", 4, "--valid", 4, "--test", 4)
    assert made.exit_code == 0, made.output
    assert f"dfloc data import {tree}" in made.output
    imported = run("import", tree, "--out", shards)
    assert imported.exit_code == 0, imported.output
    assert "72 images imported" in imported.output
    assert "images: 72 of 72 done" in imported.stderr
    assert "0 images imported" in run("import", tree, "--out", shards).output
    checked = run("check", shards)
    assert checked.exit_code == 0, checked.output
    info = Manifest.load(UPath(shards)).split("mini/telea", "train")
    (line,) = (line for line in checked.output.splitlines() if line.startswith("mini/telea") and " train " in line)
    assert line.split()[:5] == ["mini/telea", "train", "4", str(info.photographs), f"{info.fake_area:.1%}"]
    assert f"contact sheet: {shards / 'contact-sheet.png'}" in checked.output
    assert "Warning" not in imported.output + checked.output
    for domain in ("checkerboard", "reencode", "renoise", "telea"):
        said = rf"mini/{domain}: changed inside (\d+\.\d)%, outside 0\.0% of the masks, by 12 originals \(fits: 12\)"
        assert all(float(share) > 90 for share in re.findall(said, imported.output + checked.output)), domain
        assert len(re.findall(said, imported.output + checked.output)) == 2, domain
    Image.open(shards / "contact-sheet.png").verify()


def test_check_of_a_tree_counts_and_says_to_import(tiny_tree: Path) -> None:
    result = run("check", tiny_tree)
    assert result.exit_code == 0
    assert [line.split()[:4] for line in result.output.splitlines()][1] == ["tiny/blur", "train", "10", "5"]
    assert f"dfloc data import {tiny_tree} --out SHARDS" in result.output
    assert not list(tiny_tree.glob("*.png"))


def test_check_puts_the_counts_of_dolos_beside_those_found(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for split, count in {"train": 2, "valid": 900}.items():
        folder = tree / "ffhq/real" / split
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}.png").touch()
    (tree / "mine/real/test").mkdir(parents=True)
    (tree / "mine/real/test/1.png").touch()
    result = run("check", tree)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert lines[0].startswith("domain split images in Dolos source images")
    assert lines[1].startswith("ffhq/real train 2 not 9k 2 ")
    assert lines[2].startswith("ffhq/real valid 900 900 900 ")
    assert lines[3].startswith("mine/real test 1 - 1 ")
    assert lines[4] == "Warning: other counts than those of Dolos (in brackets): ffhq/real train 2 (9k)"
    assert lines[5].startswith("of Dolos, absent: celebahq/real, celebahq/p2, ")
    assert "Dolos" not in "".join(run("check", tree / "mine").output.splitlines()[:2])


@pytest.mark.ray
def test_import_of_a_folder_pair(tiny_tree: Path, tmp_path: Path, ray_local: None) -> None:
    pair, flat = tiny_tree / "tiny/fake/blur", tmp_path / "flat"
    for kind in ("images", "masks"):
        (flat / kind).mkdir(parents=True)
        for path in (pair / kind / "train").iterdir():
            shutil.copy(path, flat / kind)
    options = ("--out", tmp_path / "shards", "--domain", "my/edit", "--fake-is", "white", "--split", "60/20/20")
    result = run("import", flat, *options)
    assert result.exit_code == 0, result.output
    assert "Warning: my/edit: fake pixels are 8" in result.output
    info = Manifest.load(UPath(tmp_path / "shards")).domains["my/edit"]
    assert {split: part.photographs for split, part in info.splits.items()} == {"train": 6, "valid": 2, "test": 2}
    apart = run("import", flat / "images", "--masks", flat / "masks", *options)
    assert "0 images imported" in apart.output
    assert "Warning: my/edit" in run("check", tmp_path / "shards").output


def write_odd_pair(root: Path, count: int) -> None:
    """Write a folder pair as a user may have it: no split folders, many formats, no two images of one size."""
    rng = np.random.default_rng(0)
    for number in range(count):
        height, width = 40 + 7 * number, 300 - 5 * number
        suffix = ("jpg", "PNG", "webp", "tif", "bmp", "JPEG")[number % 6]
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 : height // 2, width // 4 : width // 2] = 255
        for part, pixels, name in (
            ("images", rng.integers(0, 256, (height, width, 3), np.uint8), f"photo {number}.{suffix}"),
            ("masks", mask, f"photo {number}.png"),
        ):
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / part / name)


@pytest.mark.ray
def test_a_folder_pair_becomes_the_fifth_domain_of_the_exposure_study(tmp_path: Path, ray_local: None) -> None:
    tree, shards = tmp_path / "tree", tmp_path / "shards"
    assert run("mini", "--out", tree, "--train", 4, "--valid", 2, "--test", 4).exit_code == 0
    assert run("import", tree, "--out", shards).exit_code == 0
    write_odd_pair(tmp_path / "edited", 12)
    words = ("--domain", "mine/sd", "--fake-is", "white", "--split", "60/20/20")
    result = run("import", tmp_path / "edited", "--out", shards, *words)
    assert "12 images imported" in result.output, result.output
    assert "rejected" not in result.output
    info = Manifest.load(UPath(shards)).domains["mine/sd"]
    assert {split: part.count for split, part in info.splits.items()} == {"train": 7, "valid": 3, "test": 2}
    assert info.fake_area == pytest.approx(1 / 16, rel=0.1)
    asked = [*(f"mini/{name}" for name in ("telea", "reencode", "renoise", "checkerboard")), "mine/sd"]
    words = ("--data", shards, "--preset", "smoke", "--set", f"domains=[{','.join(asked)}]", "--dry-run")
    plan = CliRunner().invoke(cli, ["sweep", "exposure", *map(str, words), "--workspace", str(tmp_path / "w")])
    assert plan.exit_code == 0, f"{plan.output}\n{plan.exception}"
    assert "stage base: 5 trials" in plan.output  # each domain is held out once
    assert "stage finetune: 10 trials" in plan.output
    options = SweepRequest("exposure", str(tmp_path / "w"), data=str(shards), preset="smoke", settings=(words[5],))
    workspace = Workspace(tmp_path / "w")
    trials = prepare(
        options, workspace, data_of(options, workspace), Inventory(workspace, load=False)
    ).plan.record.trials
    trained = {(trial.stage, trial.axes.get("held_out")): set(trial.spec.train.counts) for trial in trials}
    assert trained["base", "mine/sd"] == set(asked) - {"mine/sd"}
    assert trained["finetune", "mine/sd"] == {"mine/sd"}
    assert all("mine/sd" in trained["base", name] for name in asked[:4])


@pytest.mark.ray
def test_the_commands_of_the_page_on_data(
    tiny_tree: Path, tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ldm", "repaint-p2-9k", "lama", "pluralistic"):
        shutil.copytree(tiny_tree / "tiny/fake/blur", tmp_path / "dolos/celebahq/fake" / name)
    write_odd_pair(tmp_path / "edited", 30)
    names.lists(tmp_path / "listed")
    (tmp_path / "listed/list.csv").write_text("image,mask,split\ns0x.png,s0x.png,train\nreal0x.png,Negative,val\n")
    page = (Path(__file__).parents[2] / "docs/DATA.md").read_text()
    commands = re.findall(r"^dfloc ((?:data|sweep) .*)$", page, re.M)
    assert [command.split()[:2] for command in commands] == [
        ["data", "import"],
        ["data", "check"],
        ["data", "import"],
        ["sweep", "exposure"],
        ["data", "import"],
        ["sweep", "exposure"],
    ]
    for command in commands:
        extra = ["--dry-run", "--limit", "3", "--workspace", "w"] if command.startswith("sweep") else []
        result = CliRunner().invoke(cli, [*shlex.split(command), *extra])
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
    assert "stage base: 5 trials" in result.output


@pytest.mark.ray
def test_rejects_and_grey_pixels_are_told(tiny_tree: Path, tmp_path: Path, ray_local: None) -> None:
    (tiny_tree / "tiny/real/test/test0-0.png").write_text("hello")
    Image.linear_gradient("L").resize((64, 64)).save(tiny_tree / "tiny/fake/blur/masks/test/test0-0.png")
    assert "--allow-rejects" in refused("import", tiny_tree, "--out", tmp_path / "out")
    result = run("import", tiny_tree, "--out", tmp_path / "out", "--allow-rejects")
    assert "1 rejected" in result.output
    assert "tiny/blur: 4,096 mask pixels are grey" in result.output


@pytest.mark.ray
def test_photographs_authentic_images_and_a_list(tmp_path: Path, ray_local: None) -> None:
    """Each option by what the manifest holds: nine photographs, or as many as the rule tells; real images beside."""
    names.dash(tmp_path)
    for k in range(3):
        names.photo(tmp_path / f"real/img-{k}.png", seed=1)
    pair = ("import", tmp_path, "--out", tmp_path / "shards", "--domain", "mine/sd", "--fake-is", "white")
    result = run(
        *pair,
        "--split",
        "test",
        "--authentic",
        tmp_path / "real",
        "--photograph",
        "img-([0-4]|.)",
        "--family",
        "diffusion",
    )
    assert result.exit_code == 0, f"{result.output}\n{result.exception}"
    assert "mine/sd: 9 source images, told by img-([0-4]|.)" in result.output
    assert "mine/sd: of family diffusion" in result.output
    assert Manifest.load(UPath(tmp_path / "shards")).families == {"mine/sd": "diffusion", "mine/real": "real"}
    domains = Manifest.load(UPath(tmp_path / "shards")).domains
    assert {name: (info.kind, info.splits["test"].count) for name, info in domains.items()} == {
        "mine/sd": ("local", 9),
        "mine/real": ("real", 3),
    }
    (tmp_path / "list.csv").write_text("image,mask,split,photograph\nimg-1.png,img-1.png,test,p\nimg-2.png,,test,p\n")
    result = run(*pair, "--table", tmp_path / "list.csv")
    assert result.exit_code == 0, f"{result.output}\n{result.exception}"
    domains = Manifest.load(UPath(tmp_path / "shards")).domains
    assert {name: (info.photograph, info.splits["test"].count) for name, info in domains.items()} == {
        "mine/sd": ("table", 1),
        "mine/real": ("table", 1),
    }


def test_options_that_do_not_go_together(tiny_tree: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "needs --domain too" in refused("import", tiny_tree, *out, "--fake-is", "black")
    assert "--fake-is black or --fake-is white" in refused("import", tiny_tree, *out, "--domain", "a/b")
    assert "no folder" in refused("import", tiny_tree, *out, "--domain", "a/b", "--fake-is", "black")
    assert "no folder" in refused("import", tmp_path / "none", *out)
    assert "no Dolos tree" in refused("check", tmp_path)
    assert run("import", tiny_tree).exit_code == 2
    assert run("mini", "--out", tmp_path / "m", "--train", 0).exit_code == 2


def test_mini_fold_moves_the_photographs_and_seed_the_crops(tmp_path: Path) -> None:
    small = ("--train", 1, "--valid", 1, "--test", 2)
    for name, words in {"plain": (), "fold": ("--fold", 1), "seed": ("--seed", 1)}.items():
        assert run("mini", "--out", tmp_path / name, *small, *words).exit_code == 0
    tests = {name: sorted(p.name for p in (tmp_path / name / "mini/real/test").iterdir()) for name in ("plain", "fold")}
    assert tests["plain"] == [f"{stem}-0.png" for stem in sorted(photographs("test")[:2])]
    assert not set(tests["plain"]) & set(tests["fold"])
    crops = [(tmp_path / name / "mini/real/test" / tests["plain"][0]).read_bytes() for name in ("plain", "seed")]
    assert crops[0] != crops[1]


@pytest.mark.ray
def test_originals_tell_the_wrong_polarity_and_area_cannot(tmp_path: Path, ray_local: None) -> None:
    """Masks are 19 % white: read as black = fake, they are over half, which alone says nothing."""
    pair, shards = tmp_path / "pair", tmp_path / "shards"
    write_triples(pair)
    options = ("--out", shards, "--domain", "mine/sd", "--fake-is", "black", "--split", "test")
    alone = run("import", pair, *options)
    assert "fake pixels are 81% of the masks on average, over half; area cannot tell whether" in alone.output
    assert "mine/sd: no originals" in run("check", shards).output
    told = run("import", pair, *options, "--originals", pair / "originals")
    assert "4 images imported" in told.output, "originals are news"
    assert "area cannot tell" not in told.output
    for said in (told, run("check", shards)):
        assert "mine/sd: changed inside 0.0%, outside 100.0% of the masks, by 4 originals (inverted: 4)" in said.output
        assert "Warning: mine/sd: 4 of 4 masks have the wrong polarity" in said.output
    assert "--fake-is white" in told.output
    options = tuple("white" if word == "black" else word for word in options)
    right = run("import", pair, *options, "--originals", pair / "originals")
    assert "changed inside 100.0%, outside 0.0%" in right.output
    assert "Warning" not in right.output
    assert "0 images imported" in run("import", pair, *options, "--originals", pair / "originals").output
    assert "--originals" in refused("import", pair, "--out", shards, "--originals", pair / "originals")


def test_a_tree_is_judged_by_its_first_originals(tiny_tree: Path) -> None:
    """The masks of one domain of the tree are turned, of the other inverted."""
    for domain in ("blur", "noise"):
        for path in (tiny_tree / f"tiny/fake/{domain}/masks").rglob("*.png"):
            mask = np.asarray(Image.open(path))
            Image.fromarray(255 - mask if domain == "noise" else mask[::-1, ::-1].copy()).save(path)
    result = run("check", tiny_tree)
    assert "Warning: tiny/noise: 18 of 18 masks have the wrong polarity" in result.output
    (line,) = (line for line in result.output.splitlines() if line.startswith("Warning: tiny/blur"))
    number = int(re.search(r"(\d+) of 18 masks fit their originals only when turned by 180 degrees", line)[1])  # type: ignore[index]
    assert number > 12, "some shapes lie on their own turn"
