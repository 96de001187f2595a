"""Explanations of stored samples: rows as of any localizer's, beside those of images, which they do not change."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional
from upath import UPath

from dfloc import registry
from dfloc.config import DecoderSpec, ExplainSpec, MapRecipe, TrialSpec
from dfloc.data.shards import ShardReader, decode_image
from dfloc.engine.batches import StoredMaps, look
from dfloc.engine.evaluate import evaluate
from dfloc.engine.explanation import explainer
from dfloc.engine.labels import Classes
from dfloc.engine.member import Member
from dfloc.features.store import FeatureStore, recipe_for
from dfloc.features.weights import WeightsIndex
from dfloc.metrics import pointing
from dfloc.models import explain
from dfloc.storage import Workspace
from tests.engine.conftest import Data
from tests.engine.test_evaluate import evaluation
from tests.engine.test_image_tasks import spec_of

PLAIN = DecoderSpec(name="linear")
RESNET = DecoderSpec(name="timm", model="resnet18")


def decoder_of(spec: TrialSpec) -> Any:
    return Member.create(spec, [registry.map_spec(recipe.map) for recipe in spec.maps]).decoder.eval()


def stored(data: Data, recipe: MapRecipe, folder: UPath) -> StoredMaps:
    """Return the maps of the data's images by a recipe, as extraction would store them."""
    store = FeatureStore(folder)
    made = registry.find("backbone", recipe.name.backbone)(recipe.name.backbone, recipe.weights, "cpu")
    x = look(images_of(data), {recipe.name.backbone: made}, [recipe])
    x = x[:, :, 0, 0] if registry.map_spec(recipe.map).layout == "vector" else x
    store.put(recipe, 0, "d", 0, x.numpy().astype(recipe.stored), [one.id for one in data.samples])
    return StoredMaps(store, [recipe])


def images_of(data: Data) -> list[Any]:
    reader = ShardReader(data.folder)
    return [decode_image(reader.group(one.shard, one.group)[one.row]["image"]["bytes"]) for one in data.samples]


def rows_of(data: Data, spec: TrialSpec, maps: StoredMaps, layer: str | None, folder: UPath) -> Any:
    decoder, asked = decoder_of(spec), evaluation(data.samples)
    if layer is None:
        return evaluate(decoder, maps, data.samples, data.folder, asked, Classes.of(spec))
    by = ExplainSpec(layer=explain.layer_of(spec, layer or None))
    made = explainer(spec, by, decoder, data.folder, WeightsIndex(Workspace(str(folder))), "cpu")
    asked = asked.model_copy(update={"explain": by})
    return evaluate(decoder, maps, data.samples, data.folder, asked, Classes.of(spec), made)


CASES = {
    "srm/stats": (spec_of().decoder, ""),
    "pixels": (RESNET, "layer4"),
    "sam-tiny-224/pooled": (PLAIN, ""),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_are_a_localizers_and_say_of_images_what_they_said(name: str, data: Data, tmp_path: Any) -> None:
    decoder, layer = CASES[name]
    recipe = recipe_for(name, "random:0" if name.startswith("sam") else "none")
    spec = spec_of().model_copy(update={"decoder": decoder, "maps": (recipe,)})
    maps, folder = stored(data, recipe, UPath(tmp_path / "features")), UPath(tmp_path)
    plain, told = (rows_of(data, spec, maps, each, folder) for each in (None, layer))
    of_images = ["id", "score", "fake_logit", "called", "class", "prob_fake"]
    assert told.select(of_images).equals(plain.select(of_images))
    assert {*told["explain"].to_pylist()} == {f"grad-cam {explain.layer_of(spec, layer or None)}"}
    pixels = np.sum([told[column].to_numpy() for column in ("tp", "fp", "fn", "tn")], axis=0)
    assert pixels.tolist() == [fake.size for fake in data.fake]
    assert told["mask_area"].to_pylist() == pytest.approx([fake.mean() for fake in data.fake])
    assert plain["tp"].null_count == len(plain)
    mass, pointed = (told[column].to_numpy() for column in (pointing.MASS, pointing.POINTED))
    assert ((mass >= 0) & (mass <= 1)).all()
    assert ((pointed >= 0) & (pointed <= 1)).all()
    assert "explain" not in plain.column_names


def test_a_head_on_stored_vectors_is_explained_by_what_its_backbone_pools(data: Data, tmp_path: Any) -> None:
    """CAM of SAM's neck: the map weighed by the head's own weights."""
    recipe = recipe_for("sam-tiny-224/pooled", "random:0")
    spec = spec_of().model_copy(update={"decoder": PLAIN, "maps": (recipe,)})
    decoder, index = decoder_of(spec), WeightsIndex(Workspace(str(tmp_path)))
    made = explainer(spec, ExplainSpec(layer="image_embed"), decoder, data.folder, index, "cpu")
    found = made(data.samples, torch.zeros(6, 256, 1, 1), torch.zeros(6, 2))
    backbone = registry.find("backbone", "sam-tiny-224")("sam-tiny-224", "random:0", "cpu")
    embed = backbone(torch.stack([backbone.preprocess(each) for each in images_of(data)]), ["image_embed"])
    weight_C = decoder.layers.head.weight.detach()[1, :, 0, 0]
    cam = torch.einsum("c,bchw->bhw", weight_C, embed["image_embed"])[:, None].clamp(min=0) / 14**2
    cam = functional.interpolate(cam, (224, 224), mode="bilinear")
    low, high = cam.amin((2, 3), keepdim=True), cam.amax((2, 3), keepdim=True)
    torch.testing.assert_close(found, (cam - low) / (1e-7 + high - low), rtol=0, atol=1e-5)


def test_a_small_model_is_explained_by_its_features(data: Data, tmp_path: Any) -> None:
    """The last convolution's map, weighed by the head's own weights of fake, since its mean is what the head reads."""
    spec = spec_of().model_copy(update={"decoder": DecoderSpec(name="small", widths=(6, 4))})
    frame = rows_of(data, spec, StoredMaps(data.store, [data.recipe]), "", UPath(tmp_path)).to_pandas()
    assert set(frame["explain"]) == {"grad-cam features"}
    decoder = decoder_of(spec)
    with torch.no_grad():
        features_BCHW = decoder.layers.features(StoredMaps(data.store, [data.recipe]).read(data.samples))
        cam_B1hw = (decoder.layers.head.weight[1] * features_BCHW).sum(1, keepdim=True).relu()
    cam_B1HW = functional.interpolate(cam_B1hw, (256, 256), mode="bilinear")
    low, high = cam_B1HW.amin((1, 2, 3)), cam_B1HW.amax((1, 2, 3))
    mean_prob = ((cam_B1HW.mean((1, 2, 3)) - low) / (high - low + 1e-7)).tolist()
    assert frame["mean_prob"].tolist() == pytest.approx(mean_prob, rel=1e-3, abs=1e-5)


def test_an_explanation_is_of_the_layer_that_is_asked_for(data: Data, tmp_path: Any) -> None:
    recipe = recipe_for("pixels", "none")
    spec = spec_of().model_copy(update={"decoder": RESNET, "maps": (recipe,)})
    maps = stored(data, recipe, UPath(tmp_path / "features"))
    areas = [rows_of(data, spec, maps, layer, UPath(tmp_path))["mean_prob"] for layer in ("layer1", "layer4")]
    assert not np.allclose(*areas, atol=1e-3)


def test_a_layer_parts_evaluations_and_no_explanation_is_what_it_was(data: Data) -> None:
    plain = evaluation(data.samples)
    by = [plain.model_copy(update={"explain": ExplainSpec(layer=layer)}).key for layer in ("layer1", "layer4")]
    assert len({plain.key, *by}) == 3
    assert "explain" not in plain.model_dump(exclude_defaults=True)


def test_pointing_and_mass_by_hand() -> None:
    truth = torch.zeros(3, 4, 4, dtype=torch.bool)
    truth[:, :2, :2] = True
    prob = torch.zeros(3, 4, 4)
    prob[0, 0, 0], prob[0, 3, 3] = 1.0, 0.25
    prob[1, 0, 0], prob[1, 3, 3], prob[1, 3, 2] = 0.9, 0.9, 0.2
    found = pointing.pointing(prob, truth, "dfloc-1")
    assert found["pointed"].tolist() == [1.0, 0.5, 0.0]
    assert found["mass_inside"].tolist()[:2] == pytest.approx([0.8, 0.45])
    assert found["mass_inside"][2].isnan()
    rows = {"tp": [1, 1, 0], "fp": [0, 1, 0], "fn": [3, 3, 4], "tn": [12, 11, 12], "spread": [1.0, 0.9, 0.0]}
    table: Any = {key: np.array(value) for key, value in rows.items()}
    table |= {key: value.numpy() for key, value in found.items()}
    said = pointing.looks(pd.DataFrame(table))
    assert said is not None
    assert said._asdict() == pytest.approx(
        {"images": 3, "iou": (1 / 4 + 1 / 5 + 0) / 3, "pointed": 0.5, "mass": 0.625, "area": 0.25, "blank": 1}
    )
    assert pointing.looks(pd.DataFrame(table).iloc[:0]) is None
