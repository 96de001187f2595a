"""Small models of the classes that open_clip's have, put beside its own by its own means."""

import json
import warnings
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn

TEXT = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 5, "width": 32, "head_width": 8, "patch_size": 8}
MODELS = {
    "small-vit": {"vision_cfg": VIT},
    "small-vit-quickgelu": {"vision_cfg": VIT, "quick_gelu": True},
    "small-wide": {"vision_cfg": VIT | {"width": 48}},
    "small-resnet": {"vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "head_width": 64}},
    "small-timm-vit": {"vision_cfg": {"timm_model_name": "test_vit", "timm_model_pretrained": True, "image_size": 160}},
    "small-timm-convnext": {"vision_cfg": {"timm_model_name": "test_convnext", "image_size": 160}},
    "small-oblong": {"vision_cfg": VIT | {"image_size": [32, 64]}},
}


def register(folder: Path) -> None:
    """Make the small models known to open_clip in this process, as `clip:small-vit` and so on."""
    for name, config in MODELS.items():
        whole = {"embed_dim": 16, "text_cfg": TEXT, **config}
        (folder / f"{name}.json").write_text(json.dumps(whole))
    open_clip.add_model_config(folder)


def whole(model: str, seed: int = 0) -> nn.Module:
    """Return a whole CLIP, text tower and all, whose weights and statistics float16 can hold, none of them trivial."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = open_clip.create_model(model).eval()
        for name, value in clip.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn_like(value)
                value.copy_((noise.abs() + 0.5 if name.endswith("running_var") else value + 0.1 * noise).half())
    return clip


class Archive(nn.Module):
    """The form of OpenAI's own files: the towers with three numbers beside them, as TorchScript."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.visual, self.token_embedding = clip.visual, clip.token_embedding
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(32))

    def forward(self, image_BCHW: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return self.visual(image_BCHW), self.token_embedding(text) * self.input_resolution


def save_archive(clip: nn.Module, path: Path) -> None:
    size = open_clip.model.to_2tuple(clip.visual.image_size)
    example = (torch.zeros(1, 3, *size), torch.zeros(1, 1, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Archive(clip), example, check_trace=False).save(str(path))
