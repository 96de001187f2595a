from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from dfloc.errors import ConfigError
from dfloc.sweep.cell import Study
from dfloc.sweep.counts import Scale
from dfloc.sweep.study import expand
from dfloc.sweep.sweep_file import SweepFile, find, shipped

FOUR = [f"mini/{name}" for name in "abcd"]

SMALL = """
name: small
title: A small study
domains: [s/a, s/b, s/c]
device: cpu
trial:
  maps: [srm/stats]
  decoder: {name: conv, depth: 4, channels: [4]}
  loss: bce
  optimizer: adamw
  schedule: constant
  epochs: 2
  batch: 4
stages:
  base:
    grid: {held_out: "${domains}"}
    train: {domains: all_but_held_out, count: 12, valid: 4}
  finetune:
    from: base
    grid: {n: [2, 4, 8]}
    train: {domains: held_out, count: n, valid: 4}
evaluate: {domains: "${domains}", protocol: declip-2025}
presets:
  own: {}
"""


def study(preset: str, *settings: str, domains: list[str] | None = None, **how: int | tuple[str, ...]) -> Study:
    file = SweepFile(find("exposure")).choose(preset, settings, domains)
    return expand(file, **how)  # type: ignore[arg-type]


def small(tmp_path: Path, *settings: str, text: str = SMALL, **how: int | tuple[str, ...]) -> Study:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    return expand(SweepFile(path).choose("own", settings), **how)  # type: ignore[arg-type]


def counts(found: Study) -> Counter[str]:
    return Counter(cell.stage for cell in found.cells)


def test_names_of_stages_and_axes_may_be_the_same(tmp_path: Path) -> None:
    usual = small(tmp_path)
    same = SMALL.replace("  base:", "  n:").replace("from: base", "from: {stage: n, checkpoint: last}")
    found = small(tmp_path, text=same)
    assert [cell.axes for cell in found.cells] == [cell.axes for cell in usual.cells]
    assert {cell.stage for cell in found.cells} == {"n", "finetune"}
    assert {cell.parent.stage for cell in found.cells if cell.parent} == {"n"}
    assert {cell.checkpoint for cell in found.cells if cell.parent} == {"last"}


def test_an_axis_called_domain_is_what_reads_it(tmp_path: Path) -> None:
    renamed = SMALL.replace("{n: [2, 4, 8]}", "{domain: [2, 4, 8]}").replace("count: n", "count: domain")
    found, usual = small(tmp_path, text=renamed), small(tmp_path)
    assert [cell.train for cell in found.cells] == [cell.train for cell in usual.cells]
    short = SMALL.replace("    from: base\n    grid: {n: [2, 4, 8]}", "    grid: {domain: [a, s/b], n: [2]}")
    cells = small(tmp_path, text=short.replace("held_out, count", "domain, count")).cells
    assert [cell.axes["domain"] for cell in cells if cell.stage == "finetune"] == ["s/a", "s/b"]


def test_paper_has_the_trials_of_the_thesis() -> None:
    found = counts(study("paper"))
    assert (found["base"], found["finetune"]) == (4, 4 * 12)
    assert found["budgets"] == 4 + 4 + 4 + 1 + 1 + 1
    assert (found["scratch"], found["replay"], found["equal-total"]) == (48, 48, 2)


@pytest.mark.parametrize("name", sorted(shipped()))
@pytest.mark.parametrize("preset", ["paper", "mini", "smoke"])
def test_every_shipped_sweep_expands_in_every_preset(name: str, preset: str) -> None:
    domains = None if preset == "paper" else FOUR[: 2 if preset == "smoke" else 4]
    found = expand(SweepFile(find(name)).choose(preset, (), domains))
    assert found.cells
    assert {cell.trial.batch for cell in found.cells} <= {2, 4, 16, 32, 64}


def test_child_inherits_its_parents_axes_and_multiplies_its_own_alone(tmp_path: Path) -> None:
    cells = small(tmp_path, seeds=2).cells
    children = [cell for cell in cells if cell.stage == "finetune"]
    assert len(children) == 3 * 2 * 3
    for cell in children:
        assert cell.parent is not None
        assert {**cell.parent.axes, "n": cell.axes["n"]} == cell.axes
        assert cell.trial.seed == cell.parent.trial.seed == cell.axes["seed"]
        assert cell.train.count == cell.axes["n"]


def test_root_axis_is_an_axis_of_every_stage_and_is_not_crossed_with_itself(tmp_path: Path) -> None:
    cells = small(tmp_path, "grid.trial.optimizer.lr=[1e-3,1e-2]").cells
    assert Counter(cell.stage for cell in cells) == {"base": 6, "finetune": 18}
    assert {cell.trial.optimizer.lr for cell in cells} == {1e-3, 1e-2}
    assert all(cell.parent.trial.optimizer.lr == cell.trial.optimizer.lr for cell in cells if cell.parent)


def test_set_changes_one_stage_and_one_e_minus_three_is_a_number(tmp_path: Path) -> None:
    cells = small(tmp_path, "stages.finetune.trial.optimizer.lr=1e-3", "stages.finetune.grid.n=[2]").cells
    assert [cell.trial.optimizer.lr for cell in cells if cell.stage == "finetune"] == [1e-3] * 3


@pytest.mark.parametrize(
    ("axis", "values", "read"),
    [
        ("train.pairing", ["stems", "independent"], lambda cell: cell.train.pairing),
        ("trial.decoder.batch_norm", ["train", "frozen"], lambda cell: cell.trial.decoder.batch_norm),
        ("trial.select", ["iou", "last"], lambda cell: cell.trial.select),
        ("from.checkpoint", ["best", "last"], lambda cell: cell.checkpoint),
        ("train.replay", ["none", "equal"], lambda cell: cell.train.replay),
    ],
)
def test_any_field_is_an_axis(tmp_path: Path, axis: str, values: list[str], read) -> None:  # type: ignore[no-untyped-def]
    cells = small(tmp_path, f"stages.finetune.grid.{axis}=[{','.join(values)}]").cells
    children = [cell for cell in cells if cell.stage == "finetune"]
    assert Counter(map(read, children)) == dict.fromkeys(values, 9)
    assert all(cell.axes[axis] == read(cell) for cell in children)


def test_cumulative_goes_on_from_the_next_smaller_count(tmp_path: Path) -> None:
    cells = small(tmp_path, "stages.finetune.train.mode=cumulative", "stages.finetune.grid.n=[8,2,4]").cells
    line = [cell for cell in cells if cell.stage == "finetune" and cell.axes["held_out"] == "s/a"]
    assert [cell.axes["n"] for cell in line] == [2, 4, 8]
    assert line[0].parent is not None
    assert line[0].parent.stage == "base"
    assert [cell.parent for cell in line[1:]] == line[:-1]
    assert [cell.skipped for cell in line] == [0, 0, 0]


def test_incremental_skips_what_the_smaller_counts_saw(tmp_path: Path) -> None:
    cells = small(tmp_path, "stages.finetune.train.mode=incremental").cells
    line = [cell for cell in cells if cell.stage == "finetune" and cell.axes["held_out"] == "s/b"]
    assert [(cell.train.count, cell.skipped) for cell in line] == [(2, 0), (4, 2), (8, 4)]


def test_only_keeps_a_stage_and_those_it_starts_from() -> None:
    assert counts(study("paper", only=("replay",))) == {"base": 4, "replay": 48}
    with pytest.raises(ConfigError, match='unknown stage "replya"; did you mean "replay"'):
        study("paper", only=("replya",))


def test_limit_scales_all_counts_by_one_factor_and_drops_points_that_fall_together() -> None:
    full, limited = study("paper"), study("paper", limit=90)
    base = next(cell for cell in limited.cells if cell.stage == "base")
    assert (base.train.count, base.train.valid) == (30, 3)
    note = "limited to 90 of 9000 images: each count of training and validation by that factor"
    assert note in limited.notes
    points = [cell.axes["n"] for cell in limited.cells if cell.stage == "finetune"][:12]
    assert points == [round(n * 90 / 9000) or 1 for n in range(250, 3001, 250)]
    assert study("paper", limit=9000).notes == full.notes, "nothing was scaled"
    few = study("paper", limit=9)
    assert sorted({cell.axes["n"] for cell in few.cells if cell.stage == "finetune"}) == [1, 2, 3]
    assert len(few.cells) < len(full.cells)
    assert any("fell together" in note for note in few.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("  epochs: 2", "  epohcs: 2"), r'small.yaml line 12: unknown key "epohcs" in trial; did you mean "epochs"'),
        (("depth: 4", "dpeth: 4"), r'small.yaml line 8: unknown key "dpeth" in trial.decoder; did you mean "depth"'),
        (("  batch: 4", "  batch: four"), r"small.yaml line 13: trial.batch: .*'four'"),
        (("count: n, valid: 4", "count: n, valid: 0"), r"small.yaml line 21: train.valid"),
        (("count: n", "count: 3"), r'axis "n" of stage finetune is read by nothing; write `count: n`'),
        (("title: A small", "titel: A small"), r'line 3: unknown key "titel" in the sweep; did you mean "title"'),
        (("    from: base", "    from: bse"), r'unknown stage "bse"; did you mean "base"'),
        (("${domains}", "${domians}"), r"domians"),
        (("  base:\n", "  base:\n    from: finetune\n"), r"start from each other in a circle"),
        (("[2, 4, 8]", "[]"), r"axis n has no values"),
        (("name: small", "name: [small"), r"small.yaml line \d+: no YAML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(tmp_path, text=SMALL.replace(*change))


@pytest.mark.parametrize("text", ["", "   \n", "[1, 2]", "just text", "\x00\x01"])
def test_what_is_no_sweep_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"small.yaml.*(sweep file|no YAML)"):
        small(tmp_path, text=text)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS,
        "[" * 1500 + "]" * 1500,
        "a: " + "9" * 6000,
    ],
)
def test_a_file_that_would_fill_or_break_what_reads_it_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"small.yaml") as told:
        small(tmp_path, text=f"stages: {{}}\n{text}")
    assert "\n" not in str(told.value)
    assert len(str(told.value).replace(str(tmp_path), "")) < 500


def test_a_setting_that_breaks_what_reads_it_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"--set trial=\[+\.\.\.: "):
        study("smoke", "trial=" + "[" * 1500 + "]" * 1500)


def test_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than"):
        small(tmp_path, text=SMALL + "#" * 1_100_000)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trial.lr", "should be key=value"),
        ("tril.epochs=1", 'unknown key "tril"; did you mean "trial"'),
        ("stages.finetun.grid.n=[1]", 'unknown stage "finetun"; did you mean "finetune"'),
        ("trial.epochs=zwei", "--set trial.epochs=zwei: trial.epochs"),
        ("trial.optimizer.lr=-1", "trial.optimizer.lr"),
        ("stages.base.grid=3", "--set stages.base.grid=3"),
        ("domains=[a", "--set domains"),
    ],
)
def test_a_mistake_in_set_is_named(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        small(tmp_path, setting)


def test_unknown_sweep_and_preset_say_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='unknown sweep "exposrue"; did you mean "exposure"'):
        find("exposrue")
    with pytest.raises(ConfigError, match="does not exist"):
        find(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match='unknown preset "papr"; did you mean "paper"'):
        study("papr")


def test_domain_axes_take_short_names_and_refuse_unknown_ones(tmp_path: Path) -> None:
    cells = small(tmp_path, "stages.base.grid.held_out=[a]").cells
    assert {cell.axes["held_out"] for cell in cells} == {"s/a"}
    with pytest.raises(ConfigError, match='unknown domain "nosuch"'):
        small(tmp_path, "stages.base.grid.held_out=[nosuch]")


def test_an_axis_that_nothing_reads_is_refused_with_the_cure(tmp_path: Path) -> None:
    said = r'^--set stages.finetune.grid.lr=\[1e-3\]: axis "lr" of stage finetune is read by nothing.*optimizer\.lr'
    with pytest.raises(ConfigError, match=said):
        small(tmp_path, "stages.finetune.grid.lr=[1e-3]")


GRID, LOSS = 'grid: {held_out: "${domains}"}', "{held_out: [a], trial.loss: [bce, dice]}"


@pytest.mark.parametrize(
    ("preset", "settings", "losses", "batches"),
    [
        ("{}", ["grid.trial.loss=[bce,dice]", "stages.base.grid.trial.batch=[2,4]"], "bce dice", {2, 4}),
        ("{}", ["stages.base.grid.trial={loss: [dice], batch: [2]}"], "dice", {2}),
        ("{stages: {base: {grid: {held_out: [a], trial: {loss: [jaccard]}}}}}", [], "jaccard", {4}),
        ("{}", ["stages.base.grid.trial.loss=[jaccard]"], "jaccard", {4}),
        ("{}", ["stages.base.grid.trial.loss=null"], "bce", {4}),
        ("{}", ["stages.base.grid.trial=null"], "bce", {4}),
        ("{}", ["stages.base.grid={trial.loss: [dice]}", "stages.base.grid.trial.loss=[focal]"], "focal", {4}),
        ("{grid: {trial.batch: [8]}}", ["grid.trial={batch: [2, 4]}", "grid.trial.loss=[dice]"], "bce dice", {2, 4}),
    ],
)
def test_an_axis_is_one_whether_it_is_written_with_dots_or_nested(
    tmp_path: Path, preset: str, settings: list[str], losses: str, batches: set[int]
) -> None:
    for grid in (LOSS, LOSS.replace("trial.loss: [bce, dice]", "trial: {loss: [bce, dice]}")):
        text = SMALL.replace(GRID, f"grid: {grid}").replace("own: {}", f"own: {preset}")
        if settings[:1] == ["grid.trial.loss=[bce,dice]"]:
            text = text.replace(grid, "{held_out: [a]}")
        cells = [cell for cell in small(tmp_path, *settings, text=text).cells if cell.stage == "base"]
        found = {(cell.trial.loss.name, cell.trial.batch) for cell in cells}
        assert found == {(loss, batch) for loss in losses.split() for batch in batches}
        assert len(cells) == len(found)


@pytest.mark.parametrize(
    ("old", "new", "settings", "message"),
    [
        (GRID, 'grid: {trial.batch: [2], trial: {batch: [4]}}', [], r"line \d+: grid names axis trial.batch twice"),
        ("own: {}", "own: {grid: {trial: {batch: [4]}, trial.batch: [2]}}", [], r"line \d+: grid names axis"),
        ("x", "x", ["grid={trial.batch: [2], trial: {batch: [4]}}"], r"^--set grid=.*twice, with dots and nested"),
        ("x", "x", ["search={space: {trial.batch: [2], trial: {batch: [4]}}}"], r"^--set .*space names axis"),
    ],
)  # fmt: skip
def test_an_axis_that_one_mapping_names_twice_is_refused(
    tmp_path: Path, old: str, new: str, settings: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        small(tmp_path, *settings, text=SMALL.replace(old, new))


def test_a_nested_space_names_fields_as_a_grid_does(tmp_path: Path) -> None:
    search = "search: {stage: finetune, trials: 2, space: {trial.loss: [bce, dice], n: [2]}, pruner: none}\npresets:"
    text = SMALL.replace("    grid: {n: [2, 4, 8]}\n", "").replace("presets:", search)
    choice, range_ = "search.space.trial.loss=[focal]", "search.space.trial.optimizer.lr={low: 1e-4, high: 1e-2}"
    found = small(tmp_path, choice, range_, "search.space.trial.optimizer.lr.low=1e-3", text=text)
    assert {(cell.trial.loss.name, cell.trial.optimizer.lr) for cell in found.cover} == {
        ("focal", 1e-3),
        ("focal", 1e-2),
    }


SEARCHED = """search:
  stage: base
  trials: 2
  space: {trial.batch: [2, 4]}
  pruner: none
presets:"""
OF = "search.space.trial.loss={of: trial.batch, choices: {2: [bce], %s: [dice], %s: [bce]}}"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("search.space.trial.epochs={low: 1.2, high: 1.8, whole: true}", "a whole range has whole ends.* 1.2 and 1.8"),
        ("search.space.trial.decoder.depth={low: 4, high: 8}", r"multiple of 4, but it is 5; .*write `choices: "),
        ("stages.base.grid.trial.batch=[2]", "axis trial.batch stands in grid and in search.space; leave it out"),
        ("grid.trial.batch=[2]", "axis trial.batch stands in grid and in search.space"),
        (OF % ("4", "4.0"), 'key "4" stands twice; leave one of them out'),
        (OF % ("4", '"4"'), 'key "4" stands twice'),
    ],
)  # fmt: skip
def test_a_search_that_would_not_draw_what_it_says_is_refused(tmp_path: Path, setting: str, message: str) -> None:
    text = SMALL.replace("presets:", SEARCHED).replace("    from: base\n", "    grid: {held_out: [a]}\n")
    text = text.replace("    grid: {held_out: [a]}\n    grid: {n:", "    grid: {held_out: [a], n:")
    assert small(tmp_path, text=text).cover
    with pytest.raises(ConfigError, match=message):
        small(tmp_path, setting, text=text)


def test_a_range_of_numbers_that_a_field_takes_is_drawn_from(tmp_path: Path) -> None:
    text = SMALL.replace("presets:", SEARCHED).replace("    from: base\n", "").replace("held_out, count", "all, count")
    found = small(tmp_path, "search.space.trial.epochs={low: 2, high: 9}", text=text)
    assert {cell.trial.epochs for cell in found.cover} == {2, 9}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("grid.seed=[5,6]", r"^--set grid.seed=.*axis seed is no key of a grid: write `seeds: 2`.*--seeds.*trial.seed"),
        ("stages.base.grid.draw=[5]", r"axis draw is no key of a grid: write `draws: 2` for two.*, or --draws 2$"),
        ("stages.finetune.grid.from.stage=[base]", r"^--set .*: axis from.stage of stage finetune cannot say what is"),
        ("stages.finetune.grid.from.trial=[abc]", "axis from.trial of stage finetune cannot say what is"),
        ("stages.finetune.grid.base=[base]", 'axis "base" of stage finetune is read by nothing'),
        ("stages.finetune.from={stage: base, trial: abc}", "names a stage or a trial, not both; take one of them away"),
        ("grid.lr=[1e-3, 1e-4]", r'^--set grid.lr=.*: axis "lr" is read by no stage; write `count: lr`'),
    ],
)  # fmt: skip
def test_an_axis_that_could_not_do_what_it_says_is_refused(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(tmp_path, setting)


def test_a_trial_to_start_from_takes_the_place_of_a_stage_and_may_be_an_axis(tmp_path: Path) -> None:
    settings = ("stages.finetune.from={trial: abc}", "stages.finetune.grid={n: [2], held_out: [a]}")
    found = small(tmp_path, *settings, "stages.finetune.grid.from.trial=[abc, abd]").cells
    assert [cell.start for cell in found if cell.stage == "finetune"] == ["abc", "abd"]
    back = small(tmp_path, settings[0], "stages.finetune.from.stage=base").cells
    assert {cell.begun for cell in back} == {None}


def test_a_mistake_inside_a_case_is_named() -> None:
    with pytest.raises(ConfigError, match=r'--set .*: unknown key "trian".*known: evaluate, from, grid, train'):
        study("mini", "stages.budgets.cases.train_all_4.trian.count=2", domains=FOUR)


def test_the_chain_goes_by_the_counts_axis_and_not_by_its_values(tmp_path: Path) -> None:
    cells = small(tmp_path, "stages.finetune.train.mode=cumulative", seeds=5).cells
    line = [cell for cell in cells if cell.stage == "finetune" and cell.axes["held_out"] == "s/a"]
    for cell in line:
        assert cell.parent is not None
        expected = {2: ("base", None), 4: ("finetune", 2), 8: ("finetune", 4)}[cell.axes["n"]]
        assert (cell.parent.stage, cell.parent.axes.get("n")) == expected
        assert cell.parent.trial.seed == cell.trial.seed


def test_only_keeps_one_case_of_a_stage() -> None:
    kept = study("paper", only=("budgets/1000-ldm-500-rest", "replay"))
    assert counts(kept) == {"base": 4, "budgets": 1, "replay": 48}
    with pytest.raises(ConfigError, match='unknown case "1000" of stage budgets; known: 1000-ldm-500-rest'):
        study("paper", only=("budgets/1000",))
    with pytest.raises(ConfigError, match='unknown case "x" of stage base; it has none'):
        study("paper", only=("base/x",))


def test_limit_is_the_same_whatever_only_keeps() -> None:
    whole, part = study("paper", limit=300), study("paper", limit=300, only=("base",))
    bases = [[cell.train for cell in found.cells if cell.stage == "base"] for found in (whole, part)]
    assert bases[0] == bases[1]
    assert {cell.stage for cell in part.cells} == {"base"}


def test_an_unknown_parent_is_named_whatever_only_keeps() -> None:
    file = SweepFile(find("exposure")).choose("paper", ["stages.finetune.from=bass"])
    with pytest.raises(ConfigError, match=r'unknown stage "bass"; did you mean "base"'):
        expand(file, only=("base",))


def test_a_file_without_presets_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(SMALL.partition("presets:")[0])
    assert len(expand(SweepFile(path).choose("mini")).cells) == 12


@pytest.mark.parametrize("preset", ["../../evil", "", "a b/c", "a" * 101])
def test_a_preset_that_is_no_folder_is_refused_where_the_file_has_none(tmp_path: Path, preset: str) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(SMALL.partition("presets:")[0])
    with pytest.raises(ConfigError, match=r"^--preset should be named by letters"):
        SweepFile(path).choose(preset)


@pytest.mark.parametrize("name", ["../../evil", "", "a b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        small(tmp_path, f"name='{name}'")


ONE = "stages.base.grid.held_out=[a]"


def bases(found: Study, axis: str) -> list[object]:
    return [cell.axes[axis] for cell in found.cells if cell.stage == "base"]


@pytest.mark.parametrize(
    ("axis", "written", "values", "note"),
    [
        ("trial.loss", "[{name: focal, gamma: 1}, {gamma: 3, name: focal}]", ["focal(gamma=1)", "focal(gamma=3)"], ""),
        ("trial.loss", "[bce, {name: bce}]", ["bce"], 'trial.loss is bce in "bce" and {"name": "bce"}'),
        ("trial.loss", "[focal, {name: focal, gamma: 2}]", ["focal"], 'and {"name": "focal", "gamma": 2}'),
        ("trial.loss", "[bce, {name: bce, gamma: 3}]", ["bce"], "that is planned once"),
        ("trial.optimizer.lr", "[1e-3, 0.001, 1, 1.0]", [0.001, 1], "trial.optimizer.lr is 1 in 1 and 1.0"),
        ("trial.decoder.standardize", "[true, false]", ["true", "false"], ""),
        ("trial.decoder.channels", "[[4], [8, 4]]", ["[4]", "[8, 4]"], ""),
        ("trial.decoder.prior", "[null, 0.5]", ["none", 0.5], ""),
        ("trial.augment", "[null, none, blur]", ["none", "blur"], "trial.augment is none in null and"),
        ("trial.maps", "[[srm/stats], [srm/stats, srm/variance]]", ["srm/stats", "srm/stats + srm/variance"], ""),
        (
            "train.count",
            "[{first: 8, rest: 4}, 8, {rest: 4, first: 8}]",
            ["first=8, rest=4", 8],
            "train.count is first=8, rest=4 in",
        ),
    ],
)
def test_an_axis_value_is_frozen_once_whatever_way_it_is_written(
    tmp_path: Path, axis: str, written: str, values: list[object], note: str
) -> None:
    found = small(tmp_path, f"stages.base.grid.{axis}={written}", ONE)
    assert bases(found, axis) == values
    assert {type(value) for value in bases(found, axis)} <= {str, int, float}
    assert [line for line in found.notes if note in line] if note else found.notes == ()


def test_a_bare_axis_takes_mappings_too(tmp_path: Path) -> None:
    found = small(
        tmp_path, "stages.base.grid.l=[bce, {name: focal, gamma: 3}, {name: bce}]", "stages.base.trial.loss=l", ONE
    )
    losses = {cell.axes["l"]: cell.trial.loss for cell in found.cells if cell.stage == "base"}
    assert [(loss.name, loss.gamma) for loss in losses.values()] == [("bce", 2.0), ("focal", 3.0)]
    assert list(losses) == ["bce", "focal(gamma=3)"]


def test_a_domain_that_is_written_twice_is_one_with_a_line(tmp_path: Path) -> None:
    found = small(tmp_path, "stages.base.grid.held_out=[a, s/a]")
    assert bases(found, "held_out") == ["s/a"]
    assert found.notes == ('stage base: held_out is s/a in "a" and "s/a": that is planned once',)


@pytest.mark.parametrize(
    "word",
    ["010", "on", "yes", "1:30", "true", "0x10", "1_000", ".inf", "nan", "1e400", '"3"', "3.0", "9" * 20, "[]", "{}"],
)
@pytest.mark.parametrize(
    "key", ["trial.epochs", "seeds", "grid.trial.batch", "stages.finetune.grid.n", "stages.base.train.valid"]
)
def test_what_is_no_whole_number_is_refused_with_what_was_read(tmp_path: Path, key: str, word: str) -> None:
    setting = f"{key}=[2, {word}]" if "grid" in key else f"{key}={word}"
    with pytest.raises(ConfigError) as told:
        small(tmp_path, setting)
    shown = word.strip('"') if word != '"3"' else "'3'"
    assert f"--set {setting}: " in str(told.value)
    assert "should be a whole number in plain digits" in str(told.value)
    assert shown in str(told.value).rpartition("but it is ")[2]


@pytest.mark.parametrize("word", ["true", "on", "1_0.5", ".nan", "1e999", '"1e-3"'])
def test_what_is_no_number_is_refused(tmp_path: Path, word: str) -> None:
    for setting in (f"trial.optimizer.lr={word}", f"grid.trial.optimizer.lr=[1e-3, {word}]"):
        with pytest.raises(ConfigError, match=r"trial\.optimizer\.lr: should be a number in plain digits"):
            small(tmp_path, setting)


@pytest.mark.parametrize(
    ("settings", "blamed"),
    [
        (("trial.epochs=3", "grid.trial.epochs=[1, zwei]"), "--set grid.trial.epochs=[1, zwei]: trial.epochs"),
        (("grid.trial.loss=[bce, {name: focal, gamma: -1}]", "trial.loss=dice"), "--set grid.trial.loss=[bce, {name"),
        (("stages.base.train={count: 3}", "stages.base.train.valid=0"), "--set stages.base.train.valid=0: "),
        (("stages.base.train.valid=0", "stages.base.train={count: 3}"), "--set stages.base.train.valid=0: "),
        (("trial.epochs=zwei", "trial.batch=3"), "--set trial.epochs=zwei: "),
        (("trial.epochs=zwei", "trial.epochs=eins"), "--set trial.epochs=eins: "),
        (("trial.decoder.depth=5", "trial.decoder.grid=4"), "--set trial.decoder.depth=5: "),
        (("stages.base.train.count={s/a: 3, rest: '4'}",), "train.count.rest: should be"),
        (("grid.held_out=[nosuch]",), '--set grid.held_out=[nosuch]: unknown domain "nosuch"'),
        (("stages.base.grid.m=[]",), "--set stages.base.grid.m=[]: axis m has no values"),
        (("grid.trial.epochs.x=[1]",), "--set grid.trial.epochs.x=[1]: axis trial.epochs.x is a part of trial.epochs"),
        (("grid.trial.maps.0=[srm/stats]",), "which is ['srm/stats'] and has no parts"),
        (("stages.base.grid.train.count.first=[4]",), "is a part of train.count, which is 12 and has no parts"),
        (("stages.base.train.domains=[]",), "--set stages.base.train.domains=[]: train.domains: "),
        (("stages.base.train={domains: [nosuch], count: all}",), "count: all}: unknown domain"),
        (("grid.trial.loss=[bce]", "grid.trial.loss.gamma=[1]"), "grid.trial.loss is a list, which is given whole"),
        (
            ("stages.finetune.train={mode: cumulative, count: {rest: 4}}", "stages.finetune.grid.n=null"),
            "rest: 4}}: stage",
        ),
    ],
)
def test_a_wrong_value_is_blamed_on_what_gave_it(tmp_path: Path, settings: tuple[str, ...], blamed: str) -> None:
    with pytest.raises(ConfigError) as told:
        small(tmp_path, *settings)
    assert blamed in str(told.value)


def test_a_wrong_value_of_an_axis_is_blamed_on_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"small\.yaml line 20: train\.count: should be .* 'four'"):
        small(tmp_path, text=SMALL.replace("[2, 4, 8]", "[2, four, 8]"))
    with pytest.raises(ConfigError, match=r"small\.yaml line 12: trial\.epochs: .* '010'"):
        small(tmp_path, text=SMALL.replace("epochs: 2", "epochs: 010"))


def test_a_setting_of_one_stage_is_not_blamed_for_another(tmp_path: Path) -> None:
    text = SMALL.replace("count: n, valid: 4", "count: n, valid: none")
    with pytest.raises(ConfigError, match=r"small\.yaml line 21: train\.valid"):
        small(tmp_path, "stages.base.train.valid=3", "trial.batch=2", text=text)


@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    [
        (1, 3000, 1),
        (90, 3000, 30),
        (5, 900, 0),
        (15, 900, 2),
        (25, 900, 2),
        (35, 900, 4),
        (9000, 300, 300),
        (9999, 300, 300),
    ],
)
def test_a_count_is_scaled_by_whole_numbers_and_a_half_goes_to_the_even_one(
    limit: int, value: int, expected: int
) -> None:
    assert (
        Scale(limit, 9000).count(value) == max(1, expected) == max(1, min(value, round(Fraction(value * limit, 9000))))
    )


def test_a_cell_is_equal_to_what_asks_for_the_same_and_to_nothing_else(tmp_path: Path) -> None:
    cells, again = small(tmp_path).cells, small(tmp_path).cells
    assert cells == again
    assert all(one is not other for one, other in zip(cells, again, strict=True))
    assert len({*cells, *again}) == len(cells) == 12
    one = next(cell for cell in cells if cell.stage == "finetune")
    others = {"case": "more", "skipped": 1, "checkpoint": "last", "axes": {**one.axes, "n": 9}, "parent": cells[1]}
    assert all(replace(one, **{name: value}) != one for name, value in others.items())
