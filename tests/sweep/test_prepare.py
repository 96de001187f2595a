import re
import shutil
from pathlib import Path

import pytest
from upath import UPath

from dfloc import storage
from dfloc.errors import ConfigError, DataError
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import ORIGIN, SweepRequest, data_folder, data_of, origin_of, sources


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def options(data: Path | None = None, **more: object) -> SweepRequest:
    return SweepRequest("exposure", "unused", data=str(data) if data else None, **more)  # type: ignore[arg-type]


def test_preset_is_mini_on_built_in_data_and_paper_on_ones_own(tmp_path: Path) -> None:
    assert options().chosen_preset == "mini"
    assert options(tmp_path).chosen_preset == "paper"
    assert options(tmp_path, preset="smoke").chosen_preset == "smoke"


def test_shards_are_used_where_they_lie_and_a_tree_is_imported_into_the_workspace(
    workspace: Workspace, tiny_shards: UPath, tiny_tree: Path
) -> None:
    assert data_folder(options(Path(tiny_shards.path)), workspace) == tiny_shards
    assert data_folder(options(tiny_tree), workspace) == workspace.shards / "tree"
    assert data_folder(options(), workspace) == workspace.shards / "mini"


def test_another_tree_of_the_same_name_is_refused(
    workspace: Workspace, tiny_shards: UPath, tiny_tree: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_shards.path, workspace.shards / "tree")
    storage.put_json(workspace.shards / "tree" / ORIGIN, origin_of(options(tiny_tree)))
    assert data_of(options(tiny_tree), workspace).present
    other = tmp_path / "other" / "tree"
    shutil.copytree(tiny_tree, other)
    with pytest.raises(DataError, match=r"holds the images of .*/tree, not of .*/other/tree; rename the tree"):
        data_folder(options(other), workspace)


def test_a_node_must_see_the_shards_or_what_is_imported_first(
    workspace: Workspace, tiny_shards: UPath, tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_tree.parent)
    shutil.copytree(tiny_tree / "tiny/fake/noise", tmp_path / "own")
    own = (f"my/own={tmp_path / 'own'},fake=black",)
    cases = [(options(Path(tiny_shards.path)), 1), (options(Path(tiny_tree.name)), 1), (options(own=own), 1)]
    cases += [(options(Path(tiny_tree.name), own=own), 2), (options(), 0)]
    for asked, number in cases:
        found = sources(asked, workspace, data_of(asked, workspace))
        assert len(found) == number
        assert all(Path(path).is_absolute() and Path(path).exists() for path in found)
    assert sources(cases[0][0], workspace, data_of(cases[0][0], workspace)) == [str(tiny_shards / "manifest.json")]
    shutil.copytree(tiny_shards.path, workspace.shards / "mini")
    assert sources(options(), workspace, data_of(options(), workspace)) == [], "whoever sees the workspace sees them"


def test_a_tree_that_is_not_imported_can_be_planned(workspace: Workspace, tiny_tree: Path) -> None:
    asked = options(tiny_tree, preset="smoke")
    prepared = prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace))
    assert prepared.plan.record.domains == ("tiny/blur", "tiny/noise")
    assert not prepared.plan.resolved.present
    assert not workspace.shards.exists(), "nothing is written"


def test_short_and_unknown_domains(workspace: Workspace, tiny_tree: Path) -> None:
    asked = options(tiny_tree, preset="smoke", settings=("domains=[noise,blur]",))
    assert prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace)).plan.record.domains == (
        "tiny/noise",
        "tiny/blur",
    )
    asked = options(tiny_tree, preset="smoke", settings=("domains=[nois]",))
    with pytest.raises(ConfigError, match='unknown domain "nois"; known: tiny/blur, tiny/noise'):
        prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace))
    asked = options(tiny_tree, preset="smoke", settings=("domains=[noise]",))
    with pytest.raises(ConfigError, match="stage base: no domain is left to train on"):
        prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("data:1", "a study needs two local domains at least, but data:1 asks for 1; ask for data:2 or more"),
        ("data:0", "a study needs two local domains at least, but data:0 asks for 0; ask for data:2 or more"),
        ("data:\u0663", 'unknown domain "data:\u0663"; known: mini/'),
    ],
)
def test_a_number_of_domains_that_is_none_is_blamed_on_what_asks_for_it(
    workspace: Workspace, asked: str, said: str
) -> None:
    wrong = options(settings=(f"domains={asked}",))
    with pytest.raises(ConfigError, match=re.escape(f"--set domains={asked}: {said}")):
        prepare(wrong, workspace, data_of(wrong, workspace), Inventory(workspace))
    assert prepare(
        options(settings=("domains=data:02",)), workspace, data_of(options(), workspace), Inventory(workspace)
    )


def as_dolos(tree: Path, **generators: str) -> Path:
    """Give the tiny tree's domains the names of Dolos' generators."""
    (tree / "tiny").rename(tree / "celebahq")
    for own, name in generators.items():
        (tree / "celebahq/fake" / own).rename(tree / "celebahq/fake" / name)
    return tree


def test_a_tree_that_lacks_domains_says_which_trials_it_skips(workspace: Workspace, tiny_tree: Path) -> None:
    asked = options(as_dolos(tiny_tree, blur="ldm", noise="lama"), limit=4)
    plan = prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace, load=False)).plan
    said = list(plan.lines())
    absent = "celebahq/pluralistic, celebahq/repaint-p2-9k"
    assert "stage budgets: 9 of 15 trials skipped: the data lack " + absent in said
    assert "stage base: 4 of 4 trials skipped: the data lack " + absent in said
    there = "--set name=exposure-2 --set domains=[celebahq/ldm,celebahq/lama]"
    assert f"for a study of the domains that are there: {there}" in said
    assert {trial.stage for trial in plan.record.trials} == {"budgets", "scratch", "scratch-equal-steps"}
    assert plan.record.domains == ("celebahq/ldm", "celebahq/lama")
    for trial in plan.record.trials:
        assert set(trial.spec.train.counts) <= set(plan.record.domains)
        assert {each.domain for each in trial.evaluations} == {*plan.record.domains, "celebahq/real"}

    asked = options(tiny_tree, limit=4, settings=("domains=[celebahq/ldm,lama]",))
    plan = prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace, load=False)).plan
    assert not any("skipped" in line for line in plan.lines())
    assert {trial.stage for trial in plan.record.trials} >= {"base", "finetune", "baselines"}


def test_data_with_no_domain_of_the_study_are_refused(workspace: Workspace, tiny_tree: Path) -> None:
    asked = options(tiny_tree, limit=4)
    with pytest.raises(DataError, match=r"every trial of the study needs celebahq/lama, .* have tiny/blur, tiny/noise"):
        prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace, load=False))


def test_too_few_images_are_told_before_a_tree_is_imported(workspace: Workspace, tiny_tree: Path) -> None:
    asked = options(as_dolos(tiny_tree, blur="ldm", noise="lama"))
    with pytest.raises(DataError, match=r"celebahq/ldm has 10 train images, but the study asks for 9000; .*--limit 10"):
        prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace, load=False))


@pytest.mark.parametrize("what", ["missing", "file"])
def test_data_that_are_not_there(workspace: Workspace, tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("hello")
    with pytest.raises(DataError, match=f"--data .*{what} should be a folder"):
        data_of(options(tmp_path / what), workspace)


def test_weights_for_a_backbone_that_has_none_are_refused(workspace: Workspace) -> None:
    asked = options(settings=("trial.weights=random:7",))
    with pytest.raises(ConfigError, match=r'trial\.weights is "random:7", but no backbone of the study has weights'):
        prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace))


def test_a_word_for_weights_may_be_for_what_only_leaves_out(workspace: Workspace) -> None:
    asked = SweepRequest("single-domain", str(workspace.root), preset="mini", only=("single/srm",))
    [trial, *_] = prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace)).plan.record.trials
    assert [one.map for one in trial.spec.maps] == ["srm/stats"]


def test_paper_is_planned_against_dolos_whatever_the_workspace_holds(workspace: Workspace, tiny_shards: UPath) -> None:
    shutil.copytree(tiny_shards.path, workspace.shards / "mini")
    assert data_of(options(), workspace).present
    asked = options(preset="paper")
    prepared = prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace, load=False))
    assert prepared.plan.record.data == "dolos"
    assert not prepared.plan.resolved.present


def test_a_domain_without_test_images_is_planned_and_not_scored(workspace: Workspace) -> None:
    asked = options(preset="paper", settings=("domains=[ffhq/repaint-p2,celebahq/ldm]",), only=("base",))
    plan = prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace, load=False)).plan
    assert {each.domain for trial in plan.record.trials for each in trial.evaluations} == {
        "celebahq/ldm",
        "celebahq/real",
    }
    assert "ffhq/repaint-p2 has no test images: nothing is scored on it" in list(plan.lines())


def test_device_is_the_presets_unless_told(workspace: Workspace) -> None:
    for asked, device, precision in ((options(), "cpu", "fp32"), (options(device="cuda"), "cuda", "bf16")):
        prepared = prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace))
        assert prepared.device == device
        bases = [trial.spec.precision for trial in prepared.plan.record.trials if trial.stage == "base"]
        assert set(bases) == {precision}


def test_real_photographs_are_no_domain_of_a_study(workspace: Workspace, tiny_tree: Path) -> None:
    asked = options(tiny_tree, settings=("domains=[celebahq/real,celebahq/ldm]",))
    with pytest.raises(ConfigError, match="celebahq/real has no masks"):
        prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace, load=False))


def test_a_study_that_would_score_nothing_is_refused(workspace: Workspace, tiny_tree: Path) -> None:
    shutil.rmtree(tiny_tree / "tiny/fake/blur/images/test")
    asked = options(tiny_tree, preset="smoke", settings=("evaluate.domains=[tiny/blur]",))
    with pytest.raises(DataError, match="no trial would be scored: the data have test images of none of tiny/blur"):
        prepare(asked, workspace, data_of(asked, workspace), Inventory(workspace))


def test_data_named_from_another_folder_keep_their_name(
    workspace: Workspace, tiny_shards: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = data_of(options(Path(tiny_shards.path)), workspace).name
    monkeypatch.chdir(tiny_shards.path)
    assert [data_of(options(Path(path)), workspace).name for path in ("../shards", ".")] == [plain, plain]
