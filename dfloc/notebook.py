"""For notebooks: a sweep and the rows of a trial as DataFrames, and a finished trial as a function of images."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np
import numpy.typing as npt

from dfloc import plugin
from dfloc.config import Checkpoint, TrialSpec
from dfloc.engine.predict import PROTOCOL, Predictor
from dfloc.errors import DataError, WorkspaceError, unknown
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
        predictor: its decoder behind its frozen backbones.
    """

    spec: TrialSpec
    predictor: Predictor

    def __call__(self, image_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probability that each pixel was generated, float32 [H, W] in [0, 1].

        Args:
            image_HWC: RGB, uint8 [H, W, 3], of any size.

        Raises:
            DataError: it is no such array.
        """
        image_HWC = np.asarray(image_HWC)
        if image_HWC.dtype != np.uint8 or image_HWC.ndim != 3 or image_HWC.shape[2] != 3 or not image_HWC.size:
            raise DataError(f"expected an RGB image, uint8 [H, W, 3], came {image_HWC.dtype} {list(image_HWC.shape)}")
        return self.predictor(image_HWC).prob_HW.numpy()


def load(
    run: str,
    workspace: str | None = None,
    *,
    checkpoint: Checkpoint = "best",
    device: str = "cpu",
    protocol: str = PROTOCOL,
    tracking: str | None = None,
    plugins: Sequence[str] = (),
) -> Trial:
    """Return a finished trial, with its spec, that can be called with images.

    Args:
        run: its fingerprint or the first digits of it, the id of its MLflow run, or its name in a sweep.
        workspace: where it is; None: $DFLOC_WORKSPACE, else ./workspace.
        checkpoint: whose weights.
        device: cpu | cuda.
        protocol: whose resize brings maps to the image's size.
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
    return Trial(spec, Predictor.load(place, spec, checkpoint, device, protocol))


def results(sweep: str, workspace: str | None = None, *, plugins: Sequence[str] = ()) -> "pd.DataFrame":
    """Return every evaluation of a sweep, one a row: what its page and evaluations.csv are made from.

    Columns: stage, case, role (base, tuned, replayed, alone, mixture, solved; a trial may be two), held_out, n, draw,
    seed, in_domain, state, checkpoint, test_domain, protocol, num_images, num_photographs, the protocol's metrics as
    fractions, the first one's 95 % interval over photographs (iou_low, iou_high) and what calling every pixel fake
    scores (iou_all_fake), of real images beside them the share that is flagged and that of pixels called fake
    (reals_flagged, reals_area) and no other number, shares of degenerate maps, steps, train_images, trial (its
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


def _workspace(given: str | None) -> Workspace:
    place = Workspace(given or os.environ.get("DFLOC_WORKSPACE") or "./workspace", create=False)
    if not place.root.is_dir():
        raise WorkspaceError(f"there is no workspace {place.root}; name one by workspace= or $DFLOC_WORKSPACE")
    return place
