"""How many images of which domains a cell asks for, by full names; `all` is what the data have, `--limit` a share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from dfloc.data import dolos
from dfloc.data.generators import SOURCE, WHOLE
from dfloc.data.mixture import Split
from dfloc.errors import ConfigError, DataError
from dfloc.sweep.data import Data
from dfloc.sweep.train_keys import LabelsAsk, Number, TrainAsk

ALL, ALL_BUT_HELD_OUT, REAL = "all", "all_but_held_out", "real"
WORDS = frozenset({ALL, ALL_BUT_HELD_OUT, REAL, "first", "rest"})  # no names of domains, alone or in a list
HELD_OUT = "held_out"  # the axis whose values are domains whatever reads it: a short name is understood
RULE = 2  # see SweepRecord.limit_rule


@dataclass(frozen=True)
class Scale:
    """`--limit`: a count c of training or validation becomes max(1, round(c * limit / largest)), half to even.

    Attributes:
        largest: training count that the study asks of a domain; a limit that is no less changes nothing.
    """

    limit: int
    largest: int

    def ask(self, train: TrainAsk) -> TrainAsk:
        """Return what is asked of the samples, scaled."""
        within = None if train.within is None else self.count(train.within)
        labels = train.labels and train.labels.model_copy(update={"count": self._all(train.labels.count)})
        new = {"count": self._all(train.count), "valid": self._all(train.valid), "labels": labels, "within": within}
        return train.model_copy(update=new)

    def count(self, value: int) -> int:
        """Return one count, scaled; a count is never raised, and only none becomes none."""
        if self.limit >= self.largest:
            return value
        return max(min(1, value), round(Fraction(value * self.limit, self.largest)))

    def _all(self, value: object) -> int | dict[str, int]:
        if isinstance(value, Mapping):
            return {key: self.count(item) for key, item in value.items()}
        assert isinstance(value, int)
        return self.count(value)


def largest(asks: Sequence[TrainAsk]) -> int:
    """Return the largest training count that is asked of a domain."""
    asked = [count for ask in asks for count in (ask.count, ask.labels.count if ask.labels else 0)]
    each = (count.values() if isinstance(count, dict) else [count] for count in asked)
    return max(count for counts in each for count in counts if isinstance(count, int))


def names(
    asked: str | tuple[str, ...], stage: str, axes: Mapping[str, object], domains: Sequence[str], data: Data
) -> list[str]:
    """Return the domains that a field of a cell names: all | all_but_held_out | real | one domain | a list of these.

    Raises:
        ConfigError: an unknown domain, an axis that the cell does not have, or no domain is left.
    """
    listed = (asked,) if isinstance(asked, str) else asked
    for axis in {HELD_OUT, "domain"}.intersection(listed):  # no domain is called so
        raise ConfigError(f"stage {stage} has no axis {axis}; add stages.{stage}.grid.{axis}=[...]")
    found = list[str]()
    for name in listed:
        if name == ALL:
            found += domains
        elif name == ALL_BUT_HELD_OUT:
            found += _others(stage, axes, domains, data)
        elif name == REAL:
            found += reals_of(domains, data)
        else:
            found.append(full_name(name, domains, data))
    return list(dict.fromkeys(found))


def _others(stage: str, axes: Mapping[str, object], domains: Sequence[str], data: Data) -> list[str]:
    """Return the study's domains of other families than the held-out one."""
    if HELD_OUT not in axes:
        raise ConfigError(f"stage {stage}: {ALL_BUT_HELD_OUT} needs the axis {HELD_OUT}")
    held_out = dolos.family(str(axes[HELD_OUT]), data.families)
    found = [domain for domain in domains if dolos.family(domain, data.families) != held_out]
    if not found:
        raise ConfigError(f"stage {stage}: no domain is left to train on; the study has {', '.join(domains)}")
    return found


def reals_of(domains: Iterable[str], data: Data) -> list[str]:
    """Return the domains of real images of these domains' sources that the data have; all of them where they have none.

    A domain of one's own often has no reals of its source; what has none of them lacks all (`study_checks.sentences`).
    """
    named = list(dict.fromkeys(f"{domain.partition('/')[0]}/{REAL}" for domain in domains))
    return [name for name in named if data.has(name)] or named


def full_name(short: str, domains: Iterable[str], data: Data) -> str:
    """Return the full name of a domain of any kind; a short name is a local domain's where one is called so.

    Raises:
        ConfigError: no domain has that name, or several.
    """
    known = {*domains, *data.local}
    if any(short in (name, name.partition("/")[2]) for name in known):
        return dolos.resolve(short, known)
    return dolos.resolve(short, {*known, *data.kinds, *_usual(known)})


def _usual(domains: Iterable[str]) -> set[str]:
    """Return the domains that belong beside some, and that data may lack: real images, and built-in ones of today."""
    sources = {domain.partition("/")[0] for domain in domains}
    return {f"{source}/{REAL}" for source in sources} | {f"{SOURCE}/{name}" for name in WHOLE if SOURCE in sources}


def by_domain(asked: Number | Mapping[str, Number], found: Sequence[str], domains: Sequence[str]) -> dict[str, Number]:
    """Return the number of each of some domains.

    Args:
        asked: one number for all; or by domain, or with the keys `first`, `real` (of each domain of reals) and `rest`.
        found: the domains, by `names`.
        domains: of the study; `first` is its first one.

    Raises:
        ConfigError: a domain has no number, a key is no domain, or two are the same one.
    """
    if not isinstance(asked, Mapping):
        return dict.fromkeys(found, asked)
    known, given = {*domains, *found}, dict[str, Number]()
    for key, number in asked.items():
        if key == REAL:
            named = [name for name in found if dolos.is_real(name)]
        else:
            named = [domains[0] if key == "first" else key if key == "rest" else dolos.resolve(key, known)]
        for name in named:
            if name in given:
                raise ConfigError(f"count names {name} twice, by {key} and by another key")
            given[name] = number
    lacking = [name for name in found if name not in given and "rest" not in given]
    if lacking:
        raise ConfigError(f"count names no number for {', '.join(lacking)}; add the key rest")
    return {name: given[name] if name in given else given["rest"] for name in found}


def labelled(
    ask: LabelsAsk, stage: str, axes: Mapping[str, object], domains: Sequence[str], data: Data
) -> dict[str, int]:
    """Return how many images of each domain are trained on by their labels alone.

    Raises:
        ConfigError: as `names` and `by_domain`.
    """
    found = by_domain(ask.count, names(ask.domains, stage, axes, domains, data), domains)
    return {name: number for name, number in found.items() if number != "all" and number > 0}


def in_full(ask: TrainAsk, domains: Sequence[str], data: Data) -> TrainAsk:
    """Return the same with full names for short ones, in the order in which they stand.

    A name that stands for no known domain, or for several, is left to be refused where it is used.
    """

    def named(asked: object) -> object:
        return tuple(map(one, asked)) if isinstance(asked, tuple) else one(asked)

    def counted(asked: object) -> object:
        found = {one(name): number for name, number in asked.items()} if isinstance(asked, Mapping) else {}
        return found if found and isinstance(asked, Mapping) and len(found) == len(asked) else asked

    def one(name: Any) -> Any:
        return _full(name, domains, data)

    new = {field: named(getattr(ask, field)) for field in ("domains", "valid_domains")}
    new |= {field: counted(getattr(ask, field)) for field in ("count", "valid")}
    if weak := ask.labels:
        new["labels"] = weak.model_copy(update={"domains": named(weak.domains), "count": counted(weak.count)})
    return ask.model_copy(update=new)


def _full(name: str | None, domains: Sequence[str], data: Data) -> str | None:
    for known in ({*domains, *data.local}, {*data.kinds}):
        found = [one for one in known if name == one.partition("/")[2]]
        if found:
            return found[0] if len(found) == 1 and name not in WORDS else name
    return name


def numbered(ask: TrainAsk, stage: str, axes: Mapping[str, object], domains: Sequence[str], data: Data) -> TrainAsk:
    """Return what a cell asks for with a number for each `all`: as many images as the data have, or are said to have.

    Raises:
        ConfigError: `all` beside `pairing: disjoint`, where it depends on what the parent saw.
        DataError: there are none.
    """
    new: dict[str, object] = {}
    fields: tuple[tuple[Literal["count", "valid"], Split], ...] = (("count", "train"), ("valid", "valid"))
    for field, split in fields:
        asked = getattr(ask, field)
        if asked != "all" and not (isinstance(asked, Mapping) and "all" in asked.values()):
            continue
        if ask.pairing == "disjoint" and split == "train":
            raise ConfigError(f"stage {stage}: pairing disjoint needs a number, not `all`: it depends on the parent")
        of = ask.judges if split == "valid" else ask.domains
        found = by_domain(asked, names(of, stage, axes, domains, data), domains)
        within = ask.within if split == "train" else None
        numbers = {name: _all(name, split, within, data) if n == "all" else n for name, n in found.items()}
        new[field] = numbers if len({*numbers.values()}) > 1 else next(iter(numbers.values()))
    return ask.model_copy(update=new) if new else ask


def images(domain: str, split: Split, data: Data) -> int:
    """Return how many images of a domain's split there are, or are said to be."""
    facts = data.facts(domain).get(split) if data.has(domain) else None
    return facts.images if facts else 0


def _all(domain: str, split: Split, within: int | None, data: Data) -> int:
    if not data.has(domain):
        return 1  # a cell that needs it is left out
    there = images(domain, split, data)
    if not there:
        raise DataError(f"{domain} has no {split} images, but the study asks for all of them")
    return min(there, within or there)
