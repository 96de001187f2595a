"""A SAM 2 of the same classes as the published ones, with a 128 input and 16 channels: for tests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sam2 import build_sam
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

from dfloc import registry
from dfloc.models.sam2 import Sam2
from dfloc.registry import MapSpec

NAME, REPOSITORY, SIDE = "sam2.1-test", "tests/sam2.1-hiera-test", 128
TRUNK = {
    "embed_dim": 16,
    "stages": [1, 2, 3, 1],
    "global_att_blocks": [4],
}
MAPS = {
    "image_embed": MapSpec(256, 8, 8),
    "high_res_feats.0": MapSpec(32, 32, 32),
    "high_res_feats.1": MapSpec(64, 16, 16),
    "pooled": MapSpec(256, 1, 1, "vector"),
}


@contextmanager
def registered(folder: Path) -> Iterator[None]:
    """Make the small model known by its name, in this process."""
    config = OmegaConf.load(str(files("sam2") / "configs/sam2.1/sam2.1_hiera_t.yaml"))
    config.model.image_encoder.trunk.update(TRUNK)
    config.model.image_encoder.neck.backbone_channel_list = [128, 64, 32, 16]
    config.model.image_size = SIDE
    OmegaConf.save(config, folder / "small.yaml")
    row = replace(registry.backbone("sam2.1-tiny"), maps=MAPS, input_size=SIDE, weights=REPOSITORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.BACKBONES, NAME, row)
        patch.setitem(build_sam.HF_MODEL_ID_TO_FILENAMES, REPOSITORY, (str(folder / "small.yaml"), "small.pt"))
        yield


def drawn(state: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Return other values for every tensor, also for those that begin as zeros or ones."""
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in state.items()}


def held(backbone: Sam2, image_HWC: np.ndarray) -> dict[str, Tensor]:
    """Return what the library's own predictor holds of an image, with the same weights, by the names of our maps."""
    predictor = SAM2ImagePredictor(backbone.model)
    side = backbone.input_size
    predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]
    predictor.set_image(image_HWC)
    high_res = {f"high_res_feats.{place}": value for place, value in enumerate(predictor._features["high_res_feats"])}
    embed_BCHW = predictor._features["image_embed"]
    return {"image_embed": embed_BCHW, "pooled": embed_BCHW.mean((2, 3)), **high_res}
