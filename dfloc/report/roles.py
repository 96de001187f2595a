"""What a trial is in its study, by its spec, lineage and record: of all names the axis `held_out` alone decides.

A study may call its stages and axes as it likes. What a name would have said is read off what a trial trains on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfloc import registry
from dfloc.axis import Value
from dfloc.data import dolos
from dfloc.planned import PlannedTrial

BASE, TUNED, REPLAYED = "base", "tuned", "replayed"
ALONE, MIXTURE, SOLVED, COMPOSED = "alone", "mixture", "solved", "composed"
HELD_OUT, REPEATED = "held_out", ("seed", "draw")
WORDS = (HELD_OUT, *REPEATED)  # axes whose names are words of the language


@dataclass(frozen=True)
class Role:
    """What a trial is; in a study of two domains a base and a model from scratch may be one training.

    Attributes:
        kinds: base (others start from it: n = 0 of their curve) | tuned | replayed (tuned, and images of the base's own
            are among its own) | alone (from scratch, on one domain) | mixture | solved (a baseline, not trained) |
            composed (of other trials, not trained).
        held_out: the domain of its axis; without one, the only one that a tuned trial's root was not trained on.
        domain: the one that it is trained on alone; empty: several, or it started from another.
        n: images of its held-out domain that a tuned trial saw along its curve; those of the domain of one alone.
        count: images of each domain of a mixture that has as many of each.
        decoder: of a solved trial.
        exposed: whether it is trained on its held-out domain.
    """

    kinds: frozenset[str]
    held_out: str = ""
    domain: str = ""
    n: int | None = None
    count: int | None = None
    decoder: str = ""
    exposed: bool = False

    def __contains__(self, kind: str) -> bool:
        return kind in self.kinds

    @property
    def started(self) -> bool:
        """Whether it started from another trial."""
        return not self.kinds.isdisjoint((TUNED, REPLAYED))

    @property
    def facts(self) -> dict[str, Value]:
        """What it tells by itself, so that no axis has to: domain, n, count, decoder."""
        domain = self.held_out if self.started and self.exposed else self.domain
        found = {"domain": domain, "n": self.n, "count": self.count, "decoder": self.decoder}
        return {name: value for name, value in found.items() if value not in ("", None)}


def roles(trials: Sequence[PlannedTrial], families: Mapping[str, str]) -> list[Role]:
    """Return what each trial of a study is.

    Args:
        trials: of the study.
        families: of domains, where a person gave another than the generator's name.
    """
    roots = {trial.spec.lineage.root for trial in trials}
    return [_role(trial, trial.fingerprint in roots, families) for trial in trials]


def told(trials: Sequence[PlannedTrial], found: Sequence[Role]) -> dict[str, dict[str, str]]:
    """Return by stage the axes that say no more than the roles do, each with the fact: of all trials that have it."""
    facts: dict[str, dict[str, list[str]]] = {}
    for trial, role in zip(trials, found, strict=True):
        stage = facts.setdefault(trial.stage, {})
        for axis, value in trial.axes.items():
            same = [name for name, fact in role.facts.items() if fact == value and axis not in WORDS]
            stage[axis] = [name for name in stage.get(axis, same) if name in same]
    return {stage: {axis: names[0] for axis, names in of.items() if names} for stage, of in facts.items()}


def _role(trial: PlannedTrial, is_root: bool, families: Mapping[str, str]) -> Role:
    spec, held_out = trial.spec, str(trial.axes.get(HELD_OUT, ""))
    counts = {domain: count for domain, count in spec.train.counts.items() if count}
    counts = {
        domain: count for domain, count in counts.items() if not dolos.is_real(domain)
    } or counts  # of what it tells
    if spec.decoder.name in registry.SOLVED:
        return Role(frozenset([SOLVED]), held_out, decoder=spec.decoder.name)
    if spec.parts:
        return Role(frozenset([COMPOSED]), held_out)
    if spec.start:
        new = held_out or _new(counts, spec.lineage.base, {**spec.lineage.families, **families})
        kind = REPLAYED if (counts.keys() - {new}) & set(spec.lineage.base) else TUNED
        n = int(spec.train.asked.get("skip", 0)) + counts[new] if new in counts else None  # and what points before saw
        return Role(frozenset([kind]), new, n=n, exposed=new in counts)
    kinds = frozenset([ALONE if len(counts) == 1 else MIXTURE, *([BASE] if is_root else [])])
    if len(counts) == 1:
        (domain,) = counts
        n = spec.masked[domain] if spec.labelled or spec.targets == "label" else counts[domain]
        return Role(kinds, held_out, domain, n, exposed=domain == held_out)
    count = next(iter(counts.values())) if len(set(counts.values())) == 1 else None
    return Role(kinds, held_out, count=count, exposed=held_out in counts)


def _new(counts: Mapping[str, int], base: Sequence[str], families: Mapping[str, str]) -> str:
    """Return the one domain that is of no family of the base; empty where there are several, or none."""
    known = {dolos.family(domain, families) for domain in base}
    new = [domain for domain in counts if dolos.family(domain, families) not in known]
    return new[0] if len(new) == 1 else ""
