"""For notebooks: a sweep and the rows of a trial as DataFrames, and a finished trial as a function of images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from dfloc import plugin
from dfloc.config import Checkpoint, TrialSpec
from dfloc.engine.predict import Predictor, protocol_of
from dfloc.engine.predict_composite import CompositePredictor, predictor
from dfloc.errors import ConfigError, DataError, WorkspaceError, unknown
from dfloc.ledger import Ledger
from dfloc.report import evaluations
from dfloc.report.find import find
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from dfloc.sweep import lookup
from dfloc.sweep.sweep_file import shipped

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trial:
    """A finished trial that looks at one image at a time: `trial(image)`.

    Attributes:
        spec: what determines it.
        predictor: its decoder behind its frozen backbones; of a composite its `route` and its `parts`.
    """

    spec: TrialSpec
    predictor: Predictor | CompositePredictor

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells images apart as, real first; empty where it localizes."""
        return self.predictor.classes

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating[Any]]:
        """Return how probably an image, or each of several of one size, was generated; of `task: localize` each pixel.

        Args:
            images: RGB, uint8 [H, W, 3] or [N, H, W, 3], of any size.

        Returns:
            Of one that localizes float32 [H, W] or [N, H, W]; of one of images its score, float64 [] or [N]; all in
            [0, 1].

        Raises:
            DataError: it is no such array.
        """
        if self.classes:
            scores: npt.NDArray[np.float64] = 1 - self.probabilities(images)[..., 0]
            return scores
        found = [self.predictor(image_HWC).prob_HW for image_HWC in _images(images)]
        return _shaped([prob_HW.numpy() for prob_HW in found if prob_HW is not None], images)

    def probabilities(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Return the probability of each of `classes`, float64 [K] or [N, K].

        Args:
            images: as above.

        Raises:
            ConfigError: it localizes, and knows no classes.
            DataError: as above.
        """
        if not self.classes:
            raise ConfigError("this trial localizes and knows no classes; call it: trial(image) is its map")
        found = [[*self.predictor(image_HWC).probabilities.values()] for image_HWC in _images(images)]
        return _shaped(found, images)


def load(
    run: str,
    workspace: str | None = None,
    *,
    checkpoint: Checkpoint = "best",
    device: str = "cpu",
    protocol: str | None = None,
    tracking: str | None = None,
    plugins: Sequence[str] = (),
) -> Trial:
    """Return a finished trial, with its spec, that can be called with images.

    Args:
        run: its fingerprint or the first digits of it, the id of its MLflow run, or its name in a sweep.
        workspace: where it is; None: $DFLOC_WORKSPACE, else ./workspace.
        checkpoint: whose weights.
        device: cpu | cuda.
        protocol: whose resize brings maps to the image's size; None: declip-2025's. Of a trial of images there is none.
        tracking: MLflow's store, where `run` is one of its runs; None: the workspace's.
        plugins: files, folders or packages of plug-ins that the trial needs.

    Raises:
        ConfigError, WorkspaceError: no such trial, checkpoint, device or protocol, or its weights are gone.
    """
    if checkpoint not in get_args(Checkpoint):
        raise unknown("checkpoint", checkpoint, get_args(Checkpoint))
    if plugins:
        plugin.use(plugin.read(tuple(plugins)))
    place = _workspace(workspace)
    spec = lookup.find(place, run, tracking)
    return Trial(spec, predictor(place, spec, checkpoint, device, protocol_of(spec, protocol)))


def results(sweep: str, workspace: str | None = None, *, plugins: Sequence[str] = ()) -> "pd.DataFrame":
    """Return every evaluation of a sweep, one a row: what its page and evaluations.csv are made from.

    Columns: stage, case, role (base, tuned, replayed, alone, mixture, solved; a trial may be two), held_out, n, draw,
    seed, in_domain, state, checkpoint, test_domain, protocol, num_images, num_photographs, the protocol's metrics as
    fractions, the first one's 95 % interval over photographs (iou_low, iou_high) and what calling every pixel fake
    scores (iou_all_fake), of real images beside them the share that is flagged and that of pixels called fake
    (reals_flagged, reals_area) and no other number, of explained fakes by what, and IoU, pointing game, mass inside
    and fake area (explained_by, explain_iou, ...), shares of degenerate maps, steps, train_images, trial (its
    fingerprint), evaluation, and the study's axes, each by its name, or as `axis_<name>` where another column is
    called so and says something else (in evaluations.csv wherever one is called so). A trial that was not scored has
    one row, without numbers. `attrs` has the sweep, its title, and the domains that means run over:

        best = frame[frame.checkpoint.eq("best") & frame.test_domain.isin(frame.attrs["domains"])]
        best[best.role.eq("tuned")].pivot_table("iou", "n", ["held_out", "test_domain"])

    Args:
        sweep: name of its file, of which the latest start is meant, or the full name of a sweep (its report's folder).
        workspace: as `load`.
        plugins: as `load`.

    Raises:
        ConfigError, WorkspaceError: no such workspace or sweep, or it was not run there, or it is damaged.
    """
    if plugins:
        plugin.use(plugin.read(tuple(plugins)))
    place = _workspace(workspace)
    record = find(place.root, sweep, shipped())
    return evaluations.frame(evaluations.by_protocol(place, Study(record, Results(place, record))))


def rows(run: str, workspace: str | None = None, *, tracking: str | None = None) -> "pd.DataFrame":
    """Return every row of a trial: one for each image, domain, split, condition, checkpoint and protocol.

    Rows of several protocols are in one frame; each has the keys of its own, and NaN in those of the others:
    `frame[frame.protocol == "declip-2025"].groupby("domain")["ap"].mean()`.

    Args:
        run: as `load` takes it; it need not be finished by today's code.
        workspace: as `load`.
        tracking: as `load`.

    Raises:
        ConfigError, WorkspaceError: no such trial, or it was not evaluated yet.
    """
    place = _workspace(workspace)
    frame: pd.DataFrame = lookup.rows(Ledger(place), lookup.fingerprint(place, run, tracking)).to_pandas()
    return frame


def _images(given: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return images as [N, H, W, 3]."""
    images = np.asarray(given)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3 or not images.size:
        came = f"{images.dtype} {list(images.shape)}"
        raise DataError(f"expected an RGB image, uint8 [H, W, 3], or several of one size, [N, H, W, 3], came {came}")
    return images if images.ndim == 4 else images[None]


def _shaped(found: Sequence[Any], given: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Return what was said of images as one array; of one image alone without a first dimension."""
    whole = np.stack([np.asarray(each) for each in found])
    return whole if np.ndim(given) == 4 else whole[0]


def _workspace(given: str | None) -> Workspace:
    place = Workspace(given or os.environ.get("DFLOC_WORKSPACE") or "./workspace", create=False)
    if not place.root.is_dir():
        raise WorkspaceError(f"there is no workspace {place.root}; name one by workspace= or $DFLOC_WORKSPACE")
    return place
