import re
from pathlib import Path

import pytest

from dfloc.config import LossSpec
from dfloc.record import SweepRecord
from dfloc.report import budgets, controls, models, words
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from dfloc.sweep.sweep_file import shipped
from tests.report.planned import planned
from tests.report.studies import MINI, Maker, record

RAW = re.compile(r"\bNone\b|plugin ?=|\[|\]|\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{8,}\b")


def names(study: Study) -> list[str]:
    """Return what models, curves, budgets, baselines and axes are called."""
    found = [model.name for model in models.models(study)]
    found += [controls.name_of(facet, held_out) for facet, held_out, _ in controls.blocks(study)]
    found += [one.label for one in controls.controls_of(study)]
    found += [line.name for line in [*budgets.lines(study), *budgets.counted(study)]]
    axes = {axis: value for group in study.groups for axis, value in [*group.axes.items(), *group.facet]}
    return [*found, *(words.named(axis, value) for axis, value in axes.items())]


def unfilled(tmp_path: Path, sweep: SweepRecord) -> Study:
    return Study(sweep, Results(Workspace(tmp_path), sweep))


@pytest.mark.parametrize("preset", ["paper", "mini"])
@pytest.mark.parametrize("name", shipped())
def test_names_hold_no_digest_none_list_or_plug_in(name: str, preset: str, tmp_path: Path) -> None:
    assert not [text for text in names(unfilled(tmp_path, planned(name, preset))) if RAW.search(text)]


def test_a_setting_that_is_a_digest_has_words(tmp_path: Path) -> None:
    maker = Maker()
    for plugin in ("a1" * 32, "b2" * 32):
        trial = maker.plan("models", {MINI[0]: 8})
        spec = trial.spec.model_copy(update={"loss": LossSpec(name="tversky", plugin=plugin)})
        maker.trials[-1] = trial.model_copy(update={"spec": spec, "fingerprint": spec.fingerprint})
    found = names(unfilled(tmp_path, record(maker, "mini")))
    assert {"loss plug-in 1", "loss plug-in 2"} <= set(found)
    assert not [text for text in found if RAW.search(text)]


@pytest.mark.parametrize("name", shipped())
def test_a_preset_that_reads_srm_does_not_call_it_by_another_backbone(name: str, tmp_path: Path) -> None:
    study = unfilled(tmp_path, planned(name, "smoke"))
    assert not [text for text in names(study) if RAW.search(text)]
    for model in models.models(study):
        if {recipe.map for recipe in model.spec.maps} == {"srm/stats"}:
            assert not re.search("vit|rn50|sam2", model.name), model.name


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        ("depth", 12, "depth = 12"),
        ("trial.optimizer.lr", 1e-3, "learning rate = 0.001"),
        ("loss", "dice", "dice"),
        ("blur", "none", "no blur"),
        ("standardize", "true", "with standardize"),
        ("trial.decoder.channels", "[64, 32]", "channels = 64-32"),
        ("trial.decoder", "mlp(channels=[8, 8], plugin=" + "a1" * 32 + ")", "mlp(channels=8-8)"),
        ("trial.loss", "tversky(plugin=" + "a1" * 32 + ")", "tversky"),
        ("epoch_steps", "all", "epoch_steps = all"),
    ],
)
def test_an_axis_with_its_value_in_words(axis: str, value: str | float, expected: str) -> None:
    assert words.named(axis, value) == expected


@pytest.mark.parametrize(
    ("case", "maps", "depth", "expected"),
    [
        ("vit-rn50-conv-12", ("srm/stats",), 4, "srm/stats conv-4"),
        ("vit-equal", ("srm/stats",), 4, "srm/stats equal"),
        ("rn50-conv-20", ("clip-rn50/layer3",), 8, "rn50-conv-8"),
        ("sam2-high-res-0-conv-20", ("sam2.1-tiny/high_res_feats.0",), 20, "sam2-high-res-0-conv-20"),
        ("1000-ldm-500-rest", ("srm/stats",), 4, "1000-ldm-500-rest"),
    ],
)
def test_a_case_is_called_by_what_its_trials_are(case: str, maps: tuple[str, ...], depth: int, expected: str) -> None:
    spec = Maker().plan("models", {MINI[0]: 8}).spec
    recipes = tuple(spec.maps[0].model_copy(update={"map": name}) for name in maps)
    decoder = spec.decoder.model_copy(update={"name": "conv", "depth": depth})
    assert words.case(case, spec.model_copy(update={"maps": recipes, "decoder": decoder})) == expected
