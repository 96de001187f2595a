from dataclasses import replace

import pytest

from dfloc.augmentation import AugmentOp, AugmentSpec
from dfloc.config import (
    DecoderSpec,
    InitFrom,
    LossSpec,
    OptimizerSpec,
    SampleList,
    ScheduleSpec,
)
from dfloc.report.comparable import Setting, gaps
from dfloc.report.place import setting
from dfloc.report.published import load
from tests.report import crossed
from tests.report.studies import DOLOS, Maker

FUSED = ("clip-vit-l14/layer20", "clip-rn50/layer3")
LDM = "celebahq/ldm"
OPENAI = {"ab" * 32: "openai"}
CONV12, CONV20 = (DecoderSpec(name="conv", depth=depth, init="declip") for depth in (12, 20))


@pytest.fixture(scope="module")
def few_test_images() -> None:
    """Here test sets are as published."""


@pytest.fixture
def maker() -> Maker:
    return Maker(DOLOS, FUSED, "ab" * 32, 3000, 30, 300, 12, None, 12)


@pytest.fixture
def tuned(maker) -> Setting:
    base = maker.plan("base", {domain: 3000 for domain in DOLOS if domain != LDM}, held_out=LDM)
    trial = maker.plan("finetune", {LDM: 250}, parent=base, epochs=10, held_out=LDM, n=250)
    return Setting(
        random=False,
        tested=dict.fromkeys(DOLOS, 900),
        protocol="declip-2025",
        spec=trial.spec,
        words=OPENAI,
        base=base.spec,
        n=250,
    )


def why(ours: Setting, n: int = 250, table: str = "s000.exposure.ldm", domain: str = LDM) -> list[str]:
    found = load(unpublished=True)[table]
    return gaps(found.cells[domain, n], found.protocol, domain, ours)


def test_a_trial_like_the_published_one_has_no_gap(tuned):
    assert why(tuned) == []


def test_the_base_stands_at_zero(tuned):
    assert why(replace(tuned, spec=tuned.base, n=0), n=0) == []


@pytest.mark.parametrize(
    ("update", "word"),
    [
        ({"random": True}, "random weights"),
        ({"tested": dict.fromkeys(DOLOS, 50)}, "whole test sets, ours has 50 images of celebahq/ldm"),
        ({"protocol": "dolos-2024"}, "protocol declip-2025, ours dolos-2024"),
        ({"tested": dict.fromkeys(DOLOS[:3], 900)}, "tested on"),
        ({"chained": True}, "mode restart, ours continue"),
        ({"base": None}, "starts from nothing"),
        ({"words": {"ab" * 32: "ViT-L-14.pt"}}, "weights openai, ours ViT-L-14.pt"),
    ],
)
def test_each_setting_is_checked(tuned, update, word):
    (gap,) = why(replace(tuned, **update))
    assert word in gap


@pytest.mark.parametrize(
    ("update", "word"),
    [
        ({"epochs": 20}, "epochs 10, ours 20"),
        ({"maps": ()}, "ours nothing"),
    ],
)
def test_each_field_of_the_trial_is_checked(tuned, update, word):
    assert any(word in gap for gap in why(replace(tuned, spec=tuned.spec.model_copy(update=update))))


def test_more_images_or_other_domains_are_a_gap(tuned):
    counts = {LDM: 250, "celebahq/lama": 83}
    train = tuned.spec.train.model_copy(update={"counts": counts})
    gap, *_ = why(replace(tuned, spec=tuned.spec.model_copy(update={"train": train})))
    assert gap == "trained on 250 celebahq/ldm, ours 83 celebahq/lama, 250 celebahq/ldm"


def test_a_study_tells_how_many_test_images_it_has(study_of):
    study = study_of(crossed.generator_shift(num_test=4))
    assert setting(study, study.stage("single")[0]).tested == dict.fromkeys(DOLOS, 4)


def test_another_base_is_a_gap(tuned):
    base = tuned.base.model_copy(update={"epochs": 8})
    assert why(replace(tuned, base=base)) == ["base epochs 30, ours 8"]


def test_random_weights_and_another_decoder_are_gaps(maker, tuned):
    random = replace(maker, weights="random:0", trials=[])
    spec = random.plan("finetune", {LDM: 250}, epochs=10, decoder="linear").spec
    found = why(replace(tuned, spec=spec))
    assert "weights openai, ours random:0" in found
    assert "decoder conv-12, ours linear" in found


def test_own_is_the_domain_of_the_cell(maker, tuned):
    spec = maker.plan("budgets", {LDM: 9000}, case="9000-each-per-model", domain=LDM).spec
    ours = replace(tuned, spec=spec, base=None, n=None)
    cells = load()["s000.budgets"].cells
    assert gaps(cells["9000-each-per-model", LDM], "declip-2025", LDM, ours) == []
    other = gaps(cells["9000-each-per-model", "celebahq/lama"], "declip-2025", "celebahq/lama", ours)
    assert other == ["trained on 9000 celebahq/lama, ours 9000 celebahq/ldm"]


def test_what_cannot_be_checked_is_a_gap(tuned):
    cell = load()["s001.decoders"].cells["conv-4/image_embed", "id"]
    found = gaps(cell, "declip-2025", LDM, tuned)
    assert "input 224 then 1024, ours 224" in found
    assert "the source does not state batch + lr schedule + selection + init" in found


@pytest.mark.parametrize(
    ("update", "gap"),
    [
        ({"optimizer": OptimizerSpec(name="adamw", lr=3e-4)}, "optimizer adamw 0.001, ours adamw 0.0003"),
        (
            {"optimizer": OptimizerSpec(name="adamw", weight_decay=0.1)},
            "optimizer adamw 0.001, ours adamw 0.001, weight decay 0.1",
        ),
        ({"schedule": ScheduleSpec(name="constant")}, "schedule plateau, ours constant"),
        ({"batch": 64}, "batch 32, ours 64"),
        ({"select": "last"}, "selection iou, ours last"),
        ({"targets": "shuffled"}, "targets own, ours shuffled"),
        ({"epoch_steps": 10}, "epoch_steps none, ours 10"),
        ({"valid": SampleList(digest="", counts={DOLOS[2]: 9})}, f"validated on 300 {LDM}, ours 9 {DOLOS[2]}"),
        ({"decoder": DecoderSpec(name="conv", depth=12)}, "init declip, ours default"),
        ({"decoder": CONV12.model_copy(update={"prior": 0.18})}, "prior none, ours 0.18"),
        ({"decoder": CONV12.model_copy(update={"standardize": True})}, "standardize False, ours True"),
        ({"decoder": CONV12.model_copy(update={"batch_norm": "frozen"})}, "BatchNorm train, ours frozen"),
    ],
)
def test_a_model_on_clip_is_trained_as_the_published_ones(tuned, update, gap):
    """study-protocols.md: AdamW 1e-3, plateau, batch 32 (ViT alone 64), best epoch by validation IoU, N(0, 0.02)."""
    assert why(replace(tuned, spec=tuned.spec.model_copy(update=update))) == [gap]


def test_the_base_of_a_fine_tuned_model_is_trained_so_too(tuned):
    changed = {"optimizer": OptimizerSpec(name="adamw", lr=1e-5), "loss": LossSpec(name="dice")}
    assert why(replace(tuned, base=tuned.base.model_copy(update=changed))) == [
        "base: loss bce, ours dice",
        "base: optimizer adamw 0.001, ours adamw 1e-05",
    ]
    start = InitFrom(parent=tuned.base.fingerprint, checkpoint="last")
    spec = tuned.spec.model_copy(update={"init": {"decoder": start}})
    assert why(replace(tuned, spec=spec)) == ["starts from the epoch best, ours last"]


def test_a_model_that_starts_from_another_is_no_single_domain_model(maker, tuned):
    spec = maker.plan("budgets", {LDM: 9000}, case="9000-each-per-model", domain=LDM).spec
    cell = load()["s000.budgets"].cells["9000-each-per-model", LDM]
    start = {"init": {"decoder": InitFrom(parent=tuned.base.fingerprint)}}
    assert gaps(cell, "declip-2025", LDM, replace(tuned, spec=spec.model_copy(update=start), base=None, n=None)) == [
        "starts from nothing, ours from a trained model"
    ]


def test_a_small_budget_is_drawn_of_each_domain_for_itself(maker, tuned):
    counts = {domain: 1000 if domain == LDM else 500 for domain in DOLOS}
    spec = maker.plan("budgets", counts, case="1000-ldm-500-rest").spec
    ours = replace(tuned, spec=spec, base=None, n=None)
    stems = replace(ours, spec=spec.model_copy(update={"train": spec.train.model_copy(update={"asked": {}})}))
    cell = load()["s000.budgets"].cells["1000-ldm-500-rest", LDM]
    assert gaps(cell, "declip-2025", LDM, ours) == []
    assert gaps(cell, "declip-2025", LDM, stems) == [
        "pairing independent, ours stems",
        "drawn from the first 3000, ours none",
    ]


def test_vit_alone_is_trained_in_batches_of_64(maker, tuned):
    for batch, gaps_ in ((64, []), (32, ["batch 64, ours 32"])):
        spec = maker.plan("single", {LDM: 9000}, maps=FUSED[:1], spec={"batch": batch, "decoder": CONV20}).spec
        assert why(replace(tuned, spec=spec, base=None, n=None), LDM, "nb.single.vit_conv20") == gaps_


def test_patches_are_trained_as_dolos_trained_them(tuned):
    trial = next(each for each in crossed.generator_shift().trials if each.axes.get("domain") == LDM)
    ours = replace(tuned, spec=trial.spec, base=None, n=None, protocol="dolos-2024", words={})
    assert why(ours, LDM, "s004.figure6") == []
    update = {"select": "iou", "batch": 32, "optimizer": OptimizerSpec(name="adam", lr=1e-4)}
    changed = replace(ours, spec=trial.spec.model_copy(update=update))
    assert why(changed, LDM, "s004.figure6") == [
        "optimizer adam 0.001, ours adam 0.0001",
        "selection loss, ours iou",
        "batch 16, ours 32",
    ]


SAM2 = ("sam2.1-small/high_res_feats.1",)


@pytest.mark.parametrize(
    ("word", "gap"),
    [
        ("facebook/sam2.1-hiera-small", ""),
        ("/files/facebook/sam2.1-hiera-small", "/files/facebook/sam2.1-hiera-small"),
        ("/files/sam2.1_hiera_small.pt", "/files/sam2.1_hiera_small.pt"),
        ("facebook/sam2-hiera-small", "facebook/sam2-hiera-small"),
        ("facebook/sam2.1-hiera-tiny", "facebook/sam2.1-hiera-tiny"),
    ],
)
def test_the_librarys_own_word_for_sam_2_is_the_documents(maker, tuned, word, gap):
    trial = maker.plan("single", {LDM: 9000}, maps=SAM2)
    found = why(replace(tuned, spec=trial.spec, words={"ab" * 32: word}), LDM, "s000.single_domain.sam2_hrf1")
    assert [one for one in found if "weights" in one] == ([f"weights sam2.1_hiera_small, ours {gap}"] if gap else [])


@pytest.mark.parametrize(
    ("update", "gap"),
    [
        ({"loss": LossSpec(name="dice")}, "loss bce, ours dice"),
        ({"augment": AugmentSpec(ops=(AugmentOp(name="blur", probability=0.5, sigma=(0, 3)),))}, "none, ours blur"),
        ({"decoder": CONV12.model_copy(update={"channels": (16, 8)})}, "ours conv-12 of widths 16-8"),
        ({"decoder": CONV12.model_copy(update={"grid": 64})}, "ours conv-12 from a grid of 64"),
        ({"decoder": CONV12.model_copy(update={"out_size": 64})}, "ours conv-12 to 64"),
    ],
)
def test_another_model_under_the_same_name_is_a_gap(tuned, update, gap):
    (found,) = why(replace(tuned, spec=tuned.spec.model_copy(update=update)))
    assert found.endswith(gap)


def test_the_widths_of_a_decoder_are_those_of_its_map(maker, tuned):
    """study-protocols.md: one stage of 64 on SAM 2's high-resolution maps, four from 512 on CLIP."""
    found = {}
    for channels in ((64,), (512, 256, 128, 64)):
        decoder = DecoderSpec(name="conv", depth=20, channels=channels)
        trial = maker.plan("single", {LDM: 9000}, maps=SAM2, spec={"decoder": decoder})
        gaps_ = why(replace(tuned, spec=trial.spec), LDM, "s000.single_domain.sam2_hrf1")
        found[channels] = [gap for gap in gaps_ if gap.startswith("decoder")]
    assert found == {(64,): [], (512, 256, 128, 64): ["decoder conv-20, ours conv-20 of widths 512-256-128-64"]}


def test_source_is_that_of_the_column():
    cells = load()["s004.table3"].cells
    assert cells["C", "ffhq/pbca"].requires["train"] == {"ffhq/repaint-p2": 30000}
    assert cells["C", "celebahq/iou"].requires["train"] == {"celebahq/repaint-p2": 30000}
    assert cells["A", "ffhq/ap"].requires["train"] == {"ffhq/real": 9000, "ffhq/p2": 9000}
