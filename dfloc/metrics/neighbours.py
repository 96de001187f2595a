"""How far classes lie apart in a feature space, by nearest neighbours of other photographs; t-SNE for the eye."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import distance

from dfloc.errors import DataError

Floats = NDArray[np.float64]

NEIGHBOURS = 10
COMPONENTS = 50  # that t-SNE reads
PERPLEXITY = 30.0
FEWEST = 5  # images; of fewer there is no picture


class Apart(NamedTuple):
    """What is measured of N images.

    Attributes:
        right_N: 1 where most of the neighbours are of the image's class, else 0; NaN where all are of its photograph.
        silhouette_N: by Rousseeuw 1987, in [-1, 1]; NaN where there is one class, or each image is one.
        xy_N2: places in the plane; NaN where there are under 5 images or 2 features, or all are alike.
        trustworthiness: of these places, in [0, 1] (Venna and Kaski 2001); NaN likewise.
    """

    right_N: Floats  # noqa: N815
    silhouette_N: Floats  # noqa: N815
    xy_N2: Floats  # noqa: N815
    trustworthiness: float


def apart(feature_ND: Floats, classes: Sequence[str], photographs: Sequence[str]) -> Apart:
    """Measure a feature space, standardised first.

    Args:
        feature_ND: of each image.
        classes: of each image its own.
        photographs: of each image the source image that it shows.

    Raises:
        DataError: a feature is no finite number.
    """
    if not np.isfinite(feature_ND).all():
        raise DataError("a feature is no finite number; look at the model's weights")
    standard_ND = standardised(feature_ND)
    class_N = np.unique(np.asarray(classes), return_inverse=True)[1]
    away_NN = distance.squareform(distance.pdist(standard_ND))
    xy_N2 = plane(standard_ND)
    return Apart(
        nearest(away_NN, class_N, np.unique(np.asarray(photographs), return_inverse=True)[1]),
        _silhouette(away_NN, class_N),
        xy_N2,
        _trustworthiness(away_NN, xy_N2),
    )


def standardised(feature_ND: Floats) -> Floats:
    """Return features with mean 0 and deviation 1 (population) over the images; a constant one is 0."""
    mean_D, deviation_D = feature_ND.mean(0), feature_ND.std(0)
    constant_D = deviation_D <= 1e-6 * (1 + np.abs(mean_D))
    found: Floats = np.where(constant_D, 0.0, (feature_ND - mean_D) / np.where(constant_D, 1.0, deviation_D))
    return found


def nearest(away_NN: Floats, class_N: NDArray[Any], photograph_N: NDArray[Any], num: int = NEIGHBOURS) -> Floats:
    """Return 1 where the nearest images of other photographs say an image's class, 0 where not, NaN where none are.

    Of equally far ones the first in order; of classes with equal votes the one whose nearest image is nearest.

    Args:
        away_NN: distances.
        class_N: whole numbers from 0.
        photograph_N: whole numbers; a real and its fakes are one photograph, and no neighbours of each other.
        num: how many neighbours vote; all, where there are fewer.
    """
    right_N = np.full(len(class_N), np.nan)
    for place, photograph in enumerate(photograph_N):
        others = np.flatnonzero(photograph_N != photograph)
        voters = class_N[others[np.argsort(away_NN[place, others], kind="stable")[:num]]]
        if len(voters):
            votes = np.bincount(voters)[voters]
            right_N[place] = voters[votes.argmax()] == class_N[place]
    return right_N


def plane(standard_ND: Floats) -> Floats:
    """Return a place in the plane for each image, by t-SNE of the first principal components, [N, 2]."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    num, width = standard_ND.shape
    if num < FEWEST or width < 2 or not standard_ND.any():
        return np.full((num, 2), np.nan)
    component_NC = PCA(min(COMPONENTS, num, width), random_state=0).fit_transform(standard_ND)
    perplexity = min(PERPLEXITY, (num - 1) / 3)
    made = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(component_NC)
    return np.asarray(made, dtype=np.float64)


def _silhouette(away_NN: Floats, class_N: NDArray[Any]) -> Floats:
    from sklearn.metrics import silhouette_samples

    if not 1 < len(np.unique(class_N)) < len(class_N):
        return np.full(len(class_N), np.nan)
    found: Floats = silhouette_samples(away_NN, class_N, metric="precomputed")
    return found


def _trustworthiness(away_NN: Floats, xy_N2: Floats) -> float:
    from sklearn.manifold import trustworthiness

    if np.isnan(xy_N2).any():
        return float("nan")
    num = min(NEIGHBOURS, (len(xy_N2) - 1) // 2)
    return float(trustworthiness(away_NN, xy_N2, n_neighbors=num, metric="precomputed"))
