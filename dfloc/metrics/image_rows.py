"""What rows say of each image as a whole: its score, its class, and what it is called."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dfloc.errors import DataError
from dfloc.metrics.image import THRESHOLD
from dfloc.metrics.table import Array, Table, column, known, names

REAL, FAKE = "real", "fake"
PROB = "prob_"  # the column of a class's probability is called so
MOST = 0.9  # of the images of each class: more that are called alike and a model says nothing


class ImageRows(NamedTuple):
    """Rows, read as those of images.

    Attributes:
        score_N: probability of fake, float64.
        is_fake_N: whether an image is one, bool.
        class_N: the class of each: real, and fake or the family that made it.
        called_N: the class that each is called.
        classes: those that a model tells apart, real first.
        prob_NK: the probability of each of `classes`; of a model that tells real and fake alone less score and score,
            which rank as they do.
    """

    score_N: Array  # noqa: N815
    is_fake_N: Array  # noqa: N815
    class_N: Array  # noqa: N815
    called_N: Array  # noqa: N815
    classes: tuple[str, ...]
    prob_NK: Array  # noqa: N815

    @property
    def label_N(self) -> Array:  # noqa: N802
        """The place of each image's class among `classes`; -1 where it is none of them."""
        return self._places(self.class_N)

    @property
    def called_label_N(self) -> Array:  # noqa: N802
        """The place of what each image is called."""
        return self._places(self.called_N)

    def _places(self, names_N: Array) -> Array:
        places_N = np.full(len(names_N), -1, np.int64)
        for place, name in enumerate(self.classes):
            places_N[names_N == name] = place
        return places_N


class Called(NamedTuple):
    """How many images of each class (rows) are called which (columns).

    Attributes:
        true: the classes of the images: those that a model tells apart and have images, in its order, then the others.
        called: what it tells apart.
        counts: int [true, called].
    """

    true: tuple[str, ...]
    called: tuple[str, ...]
    counts: Array

    @property
    def collapsed(self) -> str:
        """The class that over 90 % of the images of every class are called; empty where there is none such.

        Empty too where all images are of one class: then a model that calls them one class can be right.
        """
        if len(self.true) < 2:
            return ""
        share_K = (self.counts / self.counts.sum(1, keepdims=True)).min(0)
        return self.called[int(share_K.argmax())] if share_K.max() > MOST else ""


def read(rows: Table) -> ImageRows:
    """Read the columns `score`, `class`, `called` and `prob_<class>` of rows.

    Of rows of maps, which have none of them, the score is the map's mean probability, and an image is real whose domain
    is `<source>/real`.

    Raises:
        DataError: a column is missing, or a value in it: a score that is no probability, an image without a class, or
            one that is called what no model tells apart.
    """
    score_N = _probabilities(rows, "score" if known(rows, "score") else "mean_prob")
    probs = [name for name in names(rows) if name.startswith(PROB) and known(rows, name)]
    classes = tuple(name.removeprefix(PROB) for name in probs) or (REAL, FAKE)
    if classes[0] != REAL:
        raise DataError(f"expected the probability of {REAL} before those of other classes, came {', '.join(classes)}")
    class_N = _words(rows, "class") if known(rows, "class") else np.where(is_real(rows), REAL, FAKE)
    called_N = _words(rows, "called") if known(rows, "called") else np.where(score_N > THRESHOLD, FAKE, REAL)
    found = ImageRows(
        score_N=score_N,
        is_fake_N=class_N != REAL,
        class_N=class_N,
        called_N=called_N,
        classes=classes,
        prob_NK=np.stack([_probabilities(rows, name) for name in probs] or [-score_N, score_N], axis=1),
    )
    if (found.called_label_N < 0).any():
        strange = sorted({*called_N.tolist()} - {*classes})[0]
        raise DataError(f'an image is called "{strange}", expected one of {", ".join(classes)}')
    return found


def is_real(rows: Table) -> Array:
    """Return of which rows the image is real: by its class, or where rows have none by its domain, `<source>/real`.

    Raises:
        DataError: a column is missing, or an image has no class.
    """
    if known(rows, "class"):
        real: Array = _words(rows, "class") == REAL
        return real
    domains = column(rows, "domain").tolist()
    return np.array([str(domain).endswith(f"/{REAL}") for domain in domains], bool)


def called(rows: Table) -> Called:
    """Return what the images of each class are called; of one that no model tells apart too.

    Raises:
        DataError: as `read`.
    """
    found = read(rows)
    there = {*found.class_N.tolist()}
    true = (*(name for name in found.classes if name in there), *sorted(there - {*found.classes}))
    counts = [
        [int(((found.class_N == one) & (found.called_N == other)).sum()) for other in found.classes] for one in true
    ]
    return Called(true, found.classes, np.array(counts, np.int64).reshape(len(true), len(found.classes)))


def together(tables: Iterable[Called]) -> Called | None:
    """Return what the images of several sets are called, by models of the same classes; None where there is no set.

    Raises:
        DataError: the classes are not the same.
    """
    parts = list(tables)
    if len({part.called for part in parts}) > 1:
        raise DataError("expected rows of models that tell the same classes apart, came several")
    if not parts:
        return None
    names = parts[0].called
    there = {name for part in parts for name in part.true}
    true = (*(name for name in names if name in there), *sorted(there - {*names}))
    counts = np.zeros((len(true), len(names)), np.int64)
    for part in parts:
        np.add.at(counts, [true.index(name) for name in part.true], part.counts)
    return Called(true, names, counts)


def _words(rows: Table, name: str) -> Array:
    values = column(rows, name).tolist()
    if {*map(type, values)} != {str} or "" in values:
        index = next(index for index, value in enumerate(values) if not isinstance(value, str) or not value)
        raise DataError(f'row {index} has no "{name}"; score these images again')
    return np.array(values, str)


def _probabilities(rows: Table, name: str) -> Array:
    try:
        values = column(rows, name).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f'expected numbers in the column "{name}"') from error
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        index = int(bad.argmax())
        raise DataError(f'row {index} has a "{name}" of {values[index]:g}, expected a probability in [0, 1]')
    return values
