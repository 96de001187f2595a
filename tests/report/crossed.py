"""Synthetic studies of models that are trained on one domain, on all but one or on all, and tested on each."""

from collections.abc import Iterator
from typing import Any

from dfloc.augmentation import AugmentOp, AugmentSpec
from dfloc.config import DecoderSpec, LossSpec, MapRecipe, OptimizerSpec, ScheduleSpec
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from tests.report.studies import DOLOS, MINI, Maker, record

OPENAI, SAM2 = "ab" * 32, "cd" * 32
WORDS = {OPENAI: "openai", SAM2: "facebook/sam2.1-hiera-small", "ef" * 32: "imagenet"}
FUSED = ("clip-vit-l14/layer20", "clip-rn50/layer3")
PATCHES = {
    "decoder": DecoderSpec(name="xception", block=2),
    "optimizer": OptimizerSpec(name="adam"),
    "schedule": ScheduleSpec(name="constant"),
    "select": "loss",
    "epoch_steps": 500,
    "batch": 16,
}
BLUR = AugmentSpec(ops=(AugmentOp(name="blur", probability=0.5, sigma=(0, 3)),))


def recipes(*names: str, via: int | None = None) -> tuple[MapRecipe, ...]:
    """Return recipes with the weights of each backbone."""
    return tuple(_recipe(name, via) for name in names)


def _recipe(name: str, via: int | None) -> MapRecipe:
    weights, side = "none", 256
    if name.startswith("clip"):
        weights, side = OPENAI, 224
    elif name.startswith("sam2"):
        weights, side = SAM2, 1024
    return MapRecipe(map=name, weights=weights, input_size=side, resize="pil-bilinear", semantics={}, via=via)


def single(maker: Maker, stage: str, count: int, **more: Any) -> None:
    """Plan a model for each domain."""
    for domain in maker.domains:
        maker.plan(stage, {domain: count}, domain=domain, **more)


def leave_one_out(maker: Maker, stage: str, count: int, **more: Any) -> None:
    """Plan a model for each domain that it is not trained on."""
    for held_out in maker.domains:
        counts = {domain: count for domain in maker.domains if domain != held_out}
        maker.plan(stage, counts, held_out=held_out, **more)


def single_domain(num_test: int = 12) -> SweepRecord:
    """Two backbones on single domains, as the thesis has them."""
    maker = Maker(DOLOS, FUSED, OPENAI, 9000, 30, 900, num_test, None, 12)
    single(maker, "single", 9000, case="vit-rn50-conv-12")
    sam2: dict[str, Any] = {"maps": recipes("sam2.1-small/high_res_feats.1", via=224)}
    sam2["decoder"] = DecoderSpec(name="conv", depth=20, channels=(64,))
    single(maker, "single", 9000, case="sam2-high-res-1-conv-20", spec=sam2, epochs=20)
    maker.baselines()
    return named(maker, "single-domain", tables=("s000.single_domain.vit_rn50", "s000.single_domain.sam2_hrf1"))


def cross_domain(num_test: int = 12) -> SweepRecord:
    """One model on thirds of three domains and of four: two stages, one matrix."""
    maker = Maker(DOLOS, FUSED, OPENAI, 3000, 30, 300, num_test, None, 12)
    leave_one_out(maker, "leave-one-out", 3000, case="vit-rn50-conv-12")
    maker.plan("all", dict.fromkeys(DOLOS, 3000), case="vit-rn50-conv-12")
    return named(maker, "cross-domain", tables=("s000.cross_domain.vit_rn50", "s000.mean_over_domains"))


def generator_shift(num_test: int = 12) -> SweepRecord:
    """Patches on one and on three generators: 4 x 8 cells of one model, of two lengths."""
    domains = (DOLOS[1], DOLOS[0], *DOLOS[2:])
    maker = Maker(domains, ("pixels",), "none", 9000, 50, 900, num_test, 500, protocol="dolos-2024")
    single(maker, "single", 9000, epochs=50, spec=PATCHES)
    leave_one_out(maker, "leave-one-out", 9000, epochs=150, spec=PATCHES)
    maker.baselines()
    return named(maker, "generator-shift", tables=("s004.figure6",))


def source_shift(num_test: int = 12) -> SweepRecord:
    """Patches on photographs of two sources, tested on one."""
    domains = ("celebahq/repaint-p2", "ffhq/repaint-p2")
    maker = Maker(
        domains, ("pixels",), "none", 30000, 50, 3000, num_test, 500, protocol="dolos-2024", tests=domains[:1]
    )
    single(maker, "single", 30000, epochs=50, spec=PATCHES)
    return named(maker, "source-shift", tables=("s004.table3", "s004.table2", "s004.table4"))


def sam2_decoders(num_test: int = 12) -> SweepRecord:
    """Maps x depths; the deepest also by another way into the backbone."""
    maker = Maker(DOLOS, (), SAM2, 9000, 20, 900, num_test, None)
    for case, via, depths in (("via-224", 224, (4, 12, 20)), ("at-once", None, (20,))):
        for name in ("image_embed", "high_res_feats.0", "high_res_feats.1"):
            for depth in depths:
                spec = {
                    "maps": recipes(f"sam2.1-small/{name}", via=via),
                    "decoder": DecoderSpec(name="conv", depth=depth, channels=(64,), init="declip"),
                }
                single(maker, "single", 9000, case=case, spec=spec, map=f"sam2.1-small/{name}", depth=depth)
    return named(maker, "sam2-decoders", tables=("s001.decoders",))


def decoder_depth(num_test: int = 12) -> SweepRecord:
    """Layers x depths of two towers, and linear probes."""
    maker = Maker(MINI, (), "none", 9, 2, 3, num_test, None)
    for case, tower, depths in (("vit-linear", "clip-vit-l14", (None,)), ("vit-conv", "clip-vit-l14", (4, 12))):
        for name, depth in ((f"{tower}/layer{k}", depth) for k in (3, 11, 20) for depth in depths):
            decoder = DecoderSpec(name="conv", depth=depth) if depth else DecoderSpec(name="linear")
            axes = {"map": name} | ({"depth": depth} if depth else {})
            single(maker, "single", 9, case=case, spec={"maps": recipes(name), "decoder": decoder}, **axes)
    return named(maker, "decoder-depth", preset="mini", synthetic=True)


def segmenters(num_test: int = 12) -> SweepRecord:
    """Architectures x encoders x losses; the best one also on single domains and leave-one-out."""
    maker = Maker(DOLOS, ("pixels",), "none", 9000, 15, 900, num_test, None, protocol="dfloc-1")
    every = dict.fromkeys(DOLOS, 9000)

    def spec(architecture: str, encoder: str, loss: str) -> dict[str, Any]:
        decoder = DecoderSpec(name="smp", architecture=architecture, encoder=encoder, weights="ef" * 32)
        return {
            "decoder": decoder,
            "loss": LossSpec(name=loss),
            "optimizer": OptimizerSpec(name="adam", lr=3e-5),
            "schedule": ScheduleSpec(name="constant"),
            "augment": BLUR,
            "batch": 16,
        }

    for axes in _product(
        architecture=("fpn", "unetplusplus"), encoder=("resnet18", "resnet50"), loss=("dice", "jaccard")
    ):
        maker.plan("configurations", every, spec=spec(**axes), **axes)
    best = spec("unetplusplus", "resnet50", "jaccard")
    single(maker, "same-generator", 9000, spec=best)
    leave_one_out(maker, "leave-one-out", 9000, spec=best)
    return named(maker, "segmenters", tables=("s002.same_generator", "s002.leave_one_out"))


def losses(num_test: int = 12) -> SweepRecord:
    """Losses x blur of two models in two stages whose axes are the same."""
    maker = Maker(MINI, ("pixels",), "none", 9, 2, 3, num_test, None, protocol="dfloc-1")
    for stage, decoder in (("segmenter", "linear"), ("frozen", "conv")):
        for axes in _product(loss=("dice", "bce"), augment=("none", "blur")):
            spec = {"loss": LossSpec(name=axes["loss"]), "augment": BLUR if axes["augment"] == "blur" else None}
            leave_one_out(maker, stage, 9, decoder=decoder, spec=spec, **axes)
    return named(maker, "losses", preset="mini", synthetic=True)


def named(maker: Maker, name: str, preset: str = "paper", **more: Any) -> SweepRecord:
    """Return the record of a sweep."""
    made = record(maker, preset, **more)
    return made.model_copy(
        update={"name": name, "sweep": f"{name}-{preset}-{made.data}", "title": name, "weights": WORDS}
    )


def truth(trial: PlannedTrial, domain: str) -> float:
    """Return a mean IoU that is different for every model, training and test."""
    spec = trial.spec
    if spec.decoder.name in ("all-fake", "mean-mask", "threshold"):
        return {"all-fake": 0.17, "mean-mask": 0.21, "threshold": 0.24}[spec.decoder.name]
    inside = 0.7 if domain in spec.train.counts else 0.2
    layers = sum(int(digits) for recipe in spec.maps if (digits := "".join(filter(str.isdigit, recipe.map[-2:]))))
    model = 0.002 * spec.decoder.depth + 0.002 * layers + 0.01 * len(spec.loss.name) + (0.02 if spec.augment else 0)
    test = 0.01 * sorted([*DOLOS, *MINI, domain]).index(domain)
    return inside + model - test - 0.005 * len(spec.train.counts) - (0.06 if spec.maps[0].via is None else 0)


def _product(**axes: tuple[str, ...]) -> Iterator[dict[str, str]]:
    combinations: list[dict[str, str]] = [{}]
    for axis, values in axes.items():
        combinations = [{**each, axis: value} for each in combinations for value in values]
    yield from combinations
