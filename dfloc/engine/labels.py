"""Of which class an image is, by the task of a trial: real or fake, or which family of generators made it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from dfloc.config import Task, TrialSpec
from dfloc.data import dolos
from dfloc.data.manifest import SampleRef
from dfloc.errors import DataError
from dfloc.metrics.image_rows import FAKE, REAL

Label = Callable[[SampleRef], int]


def classes(spec: TrialSpec) -> tuple[str, ...]:
    """Return the classes of a trial, in the order of its logits; empty where it localizes."""
    return (REAL, FAKE) if spec.task == "detect" else spec.classes


def class_of(sample: SampleRef, families: Mapping[str, str]) -> str:
    """Return real, or the family of the generator that made a sample."""
    return REAL if sample.mask_kind == "real" else dolos.family(sample.domain, families)


class Classes(NamedTuple):
    """What an image may be called, and by which families.

    Attributes:
        names: in the order of the logits; empty where a model localizes.
        families: of domains, where a person gave another than the generator's name.
        task: whose they are.
    """

    names: tuple[str, ...] = ()
    families: Mapping[str, str] = {}
    task: Task = "localize"

    @classmethod
    def of(cls, spec: TrialSpec) -> "Classes":
        """Return those of a trial."""
        return cls(classes(spec), spec.lineage.families, spec.task)

    def true(self, sample: SampleRef) -> str:
        """Return of which class a sample is; that of a family that is none of the classes is its own."""
        found = class_of(sample, self.families)
        return FAKE if self.task == "detect" and found != REAL else found

    def rows(self, logit_BK: Tensor, samples: Sequence[SampleRef]) -> list[dict[str, Any]]:
        """Return what a row says of each image: `score` of being fake, its true and its called class, and more.

        Raises:
            DataError: a logit is no finite number.
        """
        prob_BK, rows = probabilities(logit_BK), list[dict[str, Any]]()
        for sample, logit_K, prob_K in zip(samples, logit_BK.double().tolist(), prob_BK.tolist(), strict=True):
            called = self.names[max(range(len(prob_K)), key=prob_K.__getitem__)]
            row = {"score": 1 - prob_K[0], "class": self.true(sample), "called": called}
            row |= {"fake_logit": logit_K[1]} if self.task == "detect" else {}
            row |= {f"prob_{name}": prob for name, prob in zip(self.names, prob_K, strict=True)}
            rows.append(row)
        return rows


def probabilities(logit_BK: Tensor) -> Tensor:
    """Return the probability of each class, [B, K] in float64 on the CPU.

    Raises:
        DataError: a logit is no finite number.
    """
    logit_BK = logit_BK.double().cpu()
    if not bool(logit_BK.isfinite().all()):
        raise DataError("a model gave an image a logit that is no finite number; look at its weights")
    return logit_BK.softmax(1)


def label(spec: TrialSpec) -> Label:
    """Return what gives the label of a sample: where it localizes 0 real and 1 fake, else its place among the classes.

    Raises:
        DataError: (of what is returned) a sample is of no class of the trial.
    """
    if spec.task != "attribute":
        return lambda sample: int(sample.mask_kind != "real")
    places, families = {name: place for place, name in enumerate(spec.classes)}, spec.lineage.families

    def find(sample: SampleRef) -> int:
        name = class_of(sample, families)
        if name not in places:
            raise DataError(f"sample {sample.id} is of {name}, which is none of {', '.join(spec.classes)}")
        return places[name]

    return find
