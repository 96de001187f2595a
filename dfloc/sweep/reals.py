"""Real images beside fakes: whose are scored, how each list of a trial is balanced, and what that confounds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from dfloc.config import SampleList, TrialSpec
from dfloc.data import dolos
from dfloc.errors import ConfigError
from dfloc.planned import PlannedTrial
from dfloc.registry import SOLVED
from dfloc.sweep import counts
from dfloc.sweep.cell import Study
from dfloc.sweep.data import Data
from dfloc.sweep.sweep_keys import EvaluateAsk

MOST = 3  # images of one side for each of the other, above which it is said


class Balance(NamedTuple):
    """Images of a list: real ones, and wholly or partly generated ones."""

    real: int
    fake: int

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> "Balance":
        """Return that of images by domain."""
        real = sum(count for domain, count in counts.items() if dolos.is_real(domain))
        return cls(real, sum(counts.values()) - real)

    @classmethod
    def taught(cls, spec: TrialSpec) -> "Balance":
        """Return that of the images whose labels a trial learns; of one that learns masks too, but for those."""
        weak = spec.labelled.counts if spec.labelled else spec.train.counts
        return cls.of({name: weak.get(name, n * dolos.is_real(name)) for name, n in spec.train.counts.items()})

    @property
    def uneven(self) -> bool:
        """Whether there are over three of one for each of the other; one side alone is no imbalance."""
        return min(self) > 0 and max(self) > MOST * min(self)

    def __str__(self) -> str:
        return f"{self.real:,} real : {self.fake:,} fake"


def scored(ask: EvaluateAsk, tests: Sequence[str], data: Data) -> list[str]:
    """Return the domains of real images that every trial is scored on beside its test domains.

    Args:
        ask: what the study says; where it leaves `reals` out, those of the test domains' sources that the data have.
        tests: the test domains, in full.
        data: which domains there are.

    Raises:
        ConfigError: an unknown domain, or one of fakes.
    """
    if ask.reals is None:
        return [name for name in counts.reals_of(tests, data) if name not in tests and _is_there(name, data)]
    found = list[str]()
    for name in ask.reals:
        found += counts.reals_of(tests, data) if name == counts.REAL else [counts.full_name(name, tests, data)]
    for name in found:
        if not dolos.is_real(name):
            raise ConfigError(f"evaluate.reals should be domains of real images, but {name} is one of fakes")
    return list(dict.fromkeys(found))


def told(study: Study, named: Sequence[str], tests: Iterable[str], data: Data) -> Sequence[str]:
    """Return the reals that are told of where they lack: those that are named, and those of a task of images."""
    if study.ask.evaluate.reals is None and any(cell.trial.task != "localize" for cell in study.cells):
        return counts.reals_of(tests, data)
    return named


def lacking(domains: Iterable[str], data: Data) -> Iterator[tuple[str, str]]:
    """Yield the domains of real images without test images, each with a sentence: fakes alone are scored there."""
    for domain in domains:
        if not _is_there(domain, data):
            yield domain, f"the data have no test images of {domain}: only fakes are scored there ({cure(domain)})"


def _is_there(domain: str, data: Data) -> bool:
    return data.has(domain) and "test" in data.facts(domain)


def cure(domain: str) -> str:
    """Return where real images would come from."""
    return f"real images are those of {domain}/<split> of a tree, or of --authentic"


def lines(trials: Sequence[PlannedTrial]) -> Iterator[str]:
    """Yield the balance of the lists of each stage that has real images, once for all cases that have it."""
    cases: dict[str, dict[str, dict[str, None]]] = {}
    for trial in (each for each in trials if not each.spec.parts):
        train, valid = Balance.taught(trial.spec), Balance.of(trial.spec.valid.counts)
        said = f"{train} to train on, {valid} to validate on"
        cases.setdefault(trial.stage, {}).setdefault(said if train.real or valid.real else "", {})[trial.case] = None
    for stage, found in cases.items():
        for said, names in found.items():
            which = (
                f"stage {stage}"
                if len(found) == 1
                else ", ".join(f"{stage}/{name}" if name else stage for name in names)
            )
            if said:
                yield f"balance of {which}: {said}"


def warnings(trials: Sequence[PlannedTrial]) -> Iterator[str]:
    """Yield what a report must say of lists with real images: an uneven balance, and sides of different sources.

    Classes of generators are many to the one of reals, and what is solved has no balance to learn.
    """
    said: dict[str, None] = {}
    for trial in (each for each in trials if not each.spec.parts):
        valid = Balance.of(trial.spec.valid.counts)
        for what, balance in (("trains", Balance.taught(trial.spec)), ("validates", valid)):
            if balance.uneven and trial.spec.task != "attribute" and trial.spec.decoder.name not in SOLVED:
                more = "real" if balance.real > balance.fake else "fake"
                words = f"{what} on {balance}, over {MOST}:1, which favours calling an image {more}"
                said[f"Warning: {_place(trial)} {words}; say others by train.count or train.valid"] = None
        if odd := _sources_apart(trial.spec.train):
            said[f"{_place(trial)} {odd}"] = None
    yield from said


def _sources_apart(samples: SampleList) -> str:
    """Return how the sources of reals and fakes differ; empty where they do not, or one side is not there."""
    sides = {True: set[str](), False: set[str]()}
    for domain in samples.counts:
        sides[dolos.is_real(domain)].add(domain.partition("/")[0])
    real, fake = sides[True], sides[False]
    if not real or not fake or real == fake:
        return ""
    return (
        f"trains on real images of {', '.join(sorted(real))} and fakes of {', '.join(sorted(fake))}: what tells the "
        "sources apart tells real from fake there"
    )


def _place(trial: PlannedTrial) -> str:
    return "/".join(filter(None, [trial.stage, trial.case]))
