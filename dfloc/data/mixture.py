"""Which samples a trial sees: domains, counts, split, pairing, nesting; the exposure dial."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from dfloc.config import SampleList
from dfloc.errors import DataError
from dfloc.frozen import Frozen

if TYPE_CHECKING:
    from dfloc.data.manifest import SampleRef

Split = Literal["train", "valid", "test"]
Pairing = Literal["stems", "independent", "disjoint"]
Samples = Callable[[str, Split], "Sequence[SampleRef]"]
Ranked = Callable[[str, Split, int], "Sequence[SampleRef]"]


class Mixture(Frozen):
    """What is asked of one split.

    Attributes:
        counts: images of each domain; None = all that there are.
        pairing: stems (the same photographs and masks in every domain) | independent (each domain draws its own) |
            disjoint (as stems, without the photographs that the ancestors saw).
        seed: of the ranks; not the trial's seed.
        within: draw from the first so many by the stems rank only (a third); None = from all.
        skip: leave out the first so many of the draw (what an earlier round saw).
    """

    counts: dict[str, Annotated[int, Field(ge=1)] | None]
    split: Split
    pairing: Pairing = "stems"
    seed: int = 0
    within: Annotated[int, Field(ge=1)] | None = None
    skip: Annotated[int, Field(ge=0)] = 0


def stem_rank(pair: str, seed: int = 0) -> str:
    """Return a pair's place under `stems` and `disjoint`: the same in every domain; smaller comes first."""
    return hashlib.sha256(f"{seed}\x1f{pair}".encode()).hexdigest()


def own_rank(domain: str, pair: str, seed: int = 0) -> str:
    """Return a pair's place under `independent`: each domain has an order of its own."""
    return hashlib.sha256(f"{seed}\x1f{domain}\x1f{pair}".encode()).hexdigest()


def by_rank(refs: "Iterable[SampleRef]", seed: int = 0) -> "list[SampleRef]":
    """Return samples in the order of the stems rank."""
    return sorted(refs, key=lambda ref: (stem_rank(ref.pair, seed), ref.id))


def ranked(samples: Samples) -> Ranked:
    """Return what gives the samples of a domain's split by the stems rank of a mixture seed, each order found once."""
    return cache(lambda domain, split, seed: by_rank(samples(domain, split), seed))


def select(samples: Ranked, mixture: Mixture, avoid: Collection[str] = ()) -> "list[SampleRef]":
    """Return the samples of a mixture, domains in name order, each in rank order.

    Selection is by rank, so n samples are always part of the next n, and another domain moves nothing.

    Args:
        samples: all samples of a domain's split, by rank.
        mixture: what is asked.
        avoid: stems that the ancestors saw; read under `disjoint` alone.

    Raises:
        DataError: a domain has fewer samples than asked; says how many there are.
    """
    return [
        ref
        for domain, count in sorted(mixture.counts.items())
        for ref in _first(samples(domain, mixture.split, mixture.seed), mixture, domain, count, avoid)
    ]


def _first(
    pool: "Sequence[SampleRef]", mixture: Mixture, domain: str, count: int | None, avoid: Collection[str]
) -> "list[SampleRef]":
    if mixture.pairing == "disjoint":
        pool = [ref for ref in pool if ref.stem not in avoid]
    left = list(pool[: mixture.within])
    if mixture.pairing == "independent":
        left.sort(key=lambda ref: (own_rank(domain, ref.pair, mixture.seed), ref.id))
    wanted = len(left) if count is None else mixture.skip + count
    if wanted > len(left) or not left:
        raise too_few(domain, mixture, len(left))
    return left[mixture.skip : wanted]


def too_few(domain: str, mixture: Mixture, num: int) -> DataError:
    """Return the error for a domain of whose split only so many images can be taken."""
    disjoint = mixture.pairing == "disjoint"
    among = " of source images that the parent did not see" if disjoint else ""
    wanted = mixture.skip + (mixture.counts[domain] or 0)
    return DataError(
        f"{domain} has {num} {mixture.split} images{among}, but the study asks for {wanted}; import more, or ask for "
        "fewer"
    )


def replayed(parent: "Iterable[SampleRef]", count: int) -> "list[SampleRef]":
    """Return `count` samples of the parent's training list, given by rank, split evenly over its domains.

    The first ones of each domain; the remainder goes to the domains in name order.

    Raises:
        DataError: a domain of the parent's list is too small.
    """
    by_domain: dict[str, list[SampleRef]] = {}
    for ref in parent:
        by_domain.setdefault(ref.domain, []).append(ref)
    share, remainder = divmod(count, len(by_domain))
    chosen: list[SampleRef] = []
    for place, (domain, refs) in enumerate(sorted(by_domain.items())):
        wanted = share + (place < remainder)
        if wanted > len(refs):
            raise DataError(f"replay asks for {wanted} images of {domain}, but the parent trained on {len(refs)}")
        chosen += refs[:wanted]
    return chosen


def as_list(refs: "Sequence[SampleRef]", digest: str, asked: Mapping[str, object]) -> SampleList:
    """Return what a spec records of a selection."""
    counts: dict[str, int] = {}
    for ref in refs:
        counts[ref.domain] = counts.get(ref.domain, 0) + 1
    return SampleList(digest=digest, counts=counts, asked=dict(asked))
