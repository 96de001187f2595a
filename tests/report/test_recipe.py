import pytest

from dfloc.augmentation import AugmentOp, AugmentSpec
from dfloc.config import DecoderSpec, LossSpec
from dfloc.data.augment import NAMED
from dfloc.report import recipe
from tests.report import crossed
from tests.report.studies import MINI, Maker

SAM2 = "sam2.1-small"


def spec(*maps: str, **fields):
    maker = Maker()
    update = {"maps": crossed.recipes(*maps, via=fields.pop("via", None)), **fields}
    return maker.plan("single", {MINI[0]: 4}, spec=update).spec


# study-protocols.md: what the thesis, the SAM 2 poster and Dolos say of their decoders.
@pytest.mark.parametrize(
    ("maps", "decoder", "parameters", "convolutions"),
    [
        (crossed.FUSED, DecoderSpec(name="conv", depth=12), 47_933_441, 13),
        ((f"{SAM2}/image_embed",), DecoderSpec(name="conv", depth=4, channels=(128, 64)), 1_026_177, 3),
        ((f"{SAM2}/image_embed",), DecoderSpec(name="conv", depth=20, channels=(128, 64)), 3_076_481, 11),
        ((f"{SAM2}/high_res_feats.0",), DecoderSpec(name="conv", depth=20, channels=(64,)), 463_361, 6),
        ((f"{SAM2}/high_res_feats.1",), DecoderSpec(name="conv", depth=20, channels=(64,)), 514_561, 6),
        (("pixels",), DecoderSpec(name="xception", block=2), 191_330, 13),
        (("clip-vit-l14/layer20",), DecoderSpec(name="linear"), 1_025, 1),
    ],
)
def test_sizes_are_those_of_the_documents(maps, decoder, parameters, convolutions):
    assert recipe.size(spec(*maps, decoder=decoder)) == (parameters, convolutions)


def test_a_decoder_that_is_not_there_has_no_size():
    assert recipe.size(spec("srm/stats", decoder=DecoderSpec(name="conv", plugin="ab" * 32))) is None


def test_words():
    fused = spec(*crossed.FUSED, decoder=DecoderSpec(name="conv", depth=20, grid=64, channels=(128, 64), out_size=64))
    assert recipe.maps(fused) == "clip-vit-l14/layer20 + clip-rn50/layer3"
    assert (recipe.decoder(fused), recipe.plan(fused)) == ("conv-20", "128-64, from 64x64, head at 64")
    patches = spec("pixels", **crossed.PATCHES)
    assert (recipe.maps(patches), recipe.decoder(patches)) == ("", "xception to block 2")
    assert (recipe.epochs(patches), recipe.optimizer(patches)) == ("8 x 500 steps", "adam 0.001")
    segmenter = DecoderSpec(name="smp", architecture="fpn", encoder="resnet18", weights="ef" * 32)
    assert recipe.start(spec("pixels", decoder=segmenter), crossed.WORDS) == "encoder imagenet"
    assert recipe.inputs(spec(f"{SAM2}/image_embed", via=224).maps[0]) == "224 then 1024"


def test_losses_and_augmentations_say_what_is_not_default():
    assert recipe.loss(LossSpec(name="dice")) == "dice"
    assert recipe.loss(LossSpec(name="focal", gamma=3)) == "focal(gamma=3.0)"
    terms = (LossSpec(name="bce"), LossSpec(name="dice", reduction="image", smooth=1, weight=0.5))
    assert recipe.loss(LossSpec(name="sum", terms=terms)) == "bce+0.5*dice(reduction=image, smooth=1.0)"
    assert recipe.augment(None) == "none"
    ops = (AugmentOp(name="blur", kernel=5, sigma=(1, 2)), AugmentOp(name="jpeg", quality=(30, 90), at="input"))
    wanted = "blur(sigma=1-2, kernel=5)+jpeg(quality=30-90, at=input)"
    assert recipe.augment(AugmentSpec(ops=ops)) == wanted
    assert recipe.augment(AugmentSpec(ops=ops, views=3, seed=1)) == f"{wanted}, 3 views, seed 1"


def test_a_named_augmentation_keeps_its_name_where_it_is_exactly_that_one():
    (blur,) = NAMED["blur"]
    assert recipe.augment(AugmentSpec(ops=(blur,), views=2)) == "blur, 2 views"
    wider = blur.model_copy(update={"sigma": (0.0, 4.0)})
    assert recipe.augment(AugmentSpec(ops=(wider,))) == "blur(probability=0.5, sigma=0-4)"


def test_a_prior_and_standardized_inputs_are_told():
    decoder = DecoderSpec(name="linear", prior=0.17, standardize=True)
    assert recipe.plan(spec("clip-vit-l14/layer20", decoder=decoder)) == "prior 0.17, standardized"
