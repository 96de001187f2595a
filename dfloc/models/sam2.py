"""SAM 2 (Ravi et al. 2024): the maps that its image predictor holds of an image, from the full model."""

from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.transforms import functional

from dfloc import arithmetic, registry
from dfloc.errors import ConfigError, unknown
from dfloc.models import hub, tensors
from dfloc.models.base import device_of, freeze, random_seed, refuse_unknown
from dfloc.repro import seed_of

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
EMBED, POOLED = "image_embed", "pooled"
HIGH_RES = ("high_res_feats.0", "high_res_feats.1")
"""From the first two levels of the image encoder, by the mask decoder's conv_s0 and conv_s1."""


class Sam2:
    """A frozen SAM 2, in float32; its maps are those that `SAM2ImagePredictor.set_image` leaves, to the bit.

    `image_embed` has the embedding of no memory added; `high_res_feats.*` passed the mask decoder's convolutions;
    `pooled` is the mean of `image_embed` over its cells.
    Images go through one at a time: one of 1024 pixels fills a device, and its numbers depend on no other.

    Args:
        name: of its row in the registry.
        model: the library's `SAM2Base`.
        digest: of the weights; None: over the tensors that the model holds.
        device: cpu or cuda.
    """

    batch = 4

    def __init__(self, name: str, model: nn.Module, digest: str | None, device: str):
        row = registry.backbone(name)
        self.name, self.maps, self.input_size = name, row.maps, row.input_size
        self.device = device_of(device)
        self.model = freeze(model).to(self.device)
        self.digest = digest or tensors.digest(model.state_dict())

    def preprocess(self, image_HWC: npt.NDArray[np.uint8]) -> Tensor:
        """Return an RGB image as float32 [3, S, S]: resized (bilinear, with antialias) and normalised as by SAM 2."""
        image_CHW = torch.from_numpy(np.ascontiguousarray(image_HWC.transpose(2, 0, 1))).float().div(255)
        resized_CHW = functional.resize(image_CHW, [self.input_size, self.input_size], antialias=True)
        return cast(Tensor, functional.normalize(resized_CHW, MEAN, STD))

    @torch.no_grad()
    def __call__(self, images_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return the wanted maps, float32, of preprocessed images; what none of them needs is not computed.

        Raises:
            ConfigError: a map is unknown.
        """
        refuse_unknown(self.name, wanted, self.maps)
        if not wanted:
            return {}
        with arithmetic.exact(torch.get_num_threads()), torch.autocast(self.device.type, enabled=False):
            parts = [self._look(image_CHW[None].to(self.device), wanted) for image_CHW in images_BCHW]
        return {name: torch.cat([part[name] for part in parts]) for name in wanted}

    def after(self, layer: str, embed_BCHW: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
        """Return `pooled` of `image_embed`, as `models.base.Reached` says."""
        assert (layer, *wanted) == (EMBED, POOLED)
        return {POOLED: embed_BCHW.mean((2, 3))}

    def _look(self, image_BCHW: Tensor, wanted: Sequence[str]) -> Mapping[str, Tensor]:
        model: Any = self.model
        if not {EMBED, POOLED} & set(wanted):
            return self._high_res(image_BCHW, wanted)
        levels = model.forward_image(image_BCHW)["backbone_fpn"]
        embed_BCHW = levels[-1]
        if model.directly_add_no_mem_embed:
            embed_BCHW = embed_BCHW + model.no_mem_embed.reshape(1, -1, 1, 1)
        return {EMBED: embed_BCHW, POOLED: embed_BCHW.mean((2, 3)), **dict(zip(HIGH_RES, levels, strict=False))}

    def _high_res(self, image_BCHW: Tensor, wanted: Sequence[str]) -> Mapping[str, Tensor]:
        """Return maps of the first two levels; the trunk ends at the last of them, which nothing deeper enters."""
        model: Any = self.model
        trunk, neck = model.image_encoder.trunk, model.image_encoder.neck
        assert not {0, 1} & set(neck.fpn_top_down_levels)
        made: dict[str, Tensor] = {}
        x_BHWC = trunk.patch_embed(image_BCHW)
        x_BHWC = x_BHWC + trunk._get_pos_embed(x_BHWC.shape[1:3])
        first = 0
        for level, name in enumerate(HIGH_RES[: 1 + max(HIGH_RES.index(each) for each in wanted)]):
            for block in trunk.blocks[first : trunk.stage_ends[level] + 1]:
                x_BHWC = block(x_BHWC)
            first = trunk.stage_ends[level] + 1
            if name in wanted:
                lateral_BCHW = neck.convs[-1 - level](x_BHWC.permute(0, 3, 1, 2))
                made[name] = getattr(model.sam_mask_decoder, f"conv_s{level}")(lateral_BCHW)
        return made


class Sam2Release(NamedTuple):
    """What the library says of a published model: its configuration and the name of its checkpoint."""

    config: str
    checkpoint: str


def make(name: str, weights: str, device: str) -> Sam2:
    """Return a frozen SAM 2.

    Args:
        name: sam2.1-tiny, sam2.1-small, sam2.1-base-plus, sam2.1-large, or sam2-tiny and so on.
        weights: the model's repository on the hub, `random`, `random:<seed>`, or path or URL of a file
            (`tensors.FORMS`) of the full model.
        device: cpu or cuda.

    Raises:
        ConfigError: there is no such file or device, sam2 is not installed, or the weights are another model's.
    """
    device_of(device)
    seed = random_seed(weights)
    if seed is not None:
        return Sam2(name, build(name, seed), f"random:{seed}", device)
    own = registry.backbone(name).weights
    if weights == own:
        path = _fetched(name)
    elif weights.startswith("random:"):
        raise ConfigError(f'weights "{weights}": expected random or random:<seed>, a whole number, such as random:1')
    elif weights in library():
        raise ConfigError(f"weights {weights} are another model's; those of {name} are {own}")
    elif "/" in weights or Path(weights).suffix or Path(weights).exists():
        path = weights
    else:
        raise unknown(f"weights of {name}", weights, [own, "random", "random:<seed>", "path or URL of a file"])
    model, given = build(name), tensors.read(path)
    if problems := tensors.differences(model.state_dict(), given):
        raise ConfigError(f"weights {weights} do not fit {name}: {problems}; give those of this model")
    model.load_state_dict(given)
    return Sam2(name, model, None, device)


def build(name: str, seed: int = 0) -> nn.Module:
    """Return the full model by the library's own configuration, drawn from a seed, on the CPU.

    torch's global generator is as it was before.
    """
    published = library()
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    with as_file(files("sam2")) as package:
        config = OmegaConf.load(package / published[registry.backbone(name).weights].config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of("dfloc", "weights", seed))
        return cast(nn.Module, instantiate(config.model)).eval()


def library() -> Mapping[str, Sam2Release]:
    """Return what the library knows: by repository on the hub, the published models.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES
    except Exception as error:
        raise ConfigError(
            "SAM 2 needs the package sam2, which cannot be imported; install it beside torch by "
            f"SAM2_BUILD_CUDA=0 pip install --no-build-isolation -c constraints.txt sam2 ({error})"
        ) from error
    return {repository: Sam2Release(*names) for repository, names in HF_MODEL_ID_TO_FILENAMES.items()}


def _fetched(name: str) -> str:
    repository = registry.backbone(name).weights
    cure = f"name it by --set 'trial.weights={{\"{name}\": PATH}}'"
    names = [library()[repository].checkpoint]
    return hub.fetched(repository, names, None, what=f'weights "{repository}" of {name}', cure=cure)
