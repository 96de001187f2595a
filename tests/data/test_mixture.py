import hashlib

import pytest

from dfloc.data.manifest import SampleRef
from dfloc.data.mixture import Mixture, as_list, by_rank, own_rank, ranked, replayed, select, stem_rank
from dfloc.errors import DataError

DOMAINS = ("s/a", "s/b", "s/c")


def ref(domain: str, k: int, split: str = "train", photograph: int | None = None) -> SampleRef:
    stem = f"s/{k if photograph is None else photograph}"
    return SampleRef(
        f"{domain}/{split}/{k}.png", f"s/{k}", stem, domain, split, "i", "m", "fake_is_black", "f", "d", 0, k
    )


def there(domain: str, split: str) -> list[SampleRef]:
    return [ref(domain, k, split) for k in range(40)]


samples = ranked(there)


def ids(refs: list[SampleRef]) -> set[str]:
    return {r.id for r in refs}


def mixture(count: int | None = 10, domains: tuple[str, ...] = DOMAINS, **more: object) -> Mixture:
    return Mixture.model_validate({"counts": dict.fromkeys(domains, count), "split": "train", **more})


def test_rank_is_the_hash_of_seed_and_pair() -> None:
    assert stem_rank("s/7", 3) == hashlib.sha256(b"3\x1fs/7").hexdigest()
    assert own_rank("s/a", "s/7", 3) == hashlib.sha256(b"3\x1fs/a\x1fs/7").hexdigest()
    first = min(range(40), key=lambda k: hashlib.sha256(f"0\x1fs/{k}".encode()).hexdigest())
    assert select(samples, mixture(1, ("s/a",)))[0].id == f"s/a/train/{first}.png"


def test_smaller_draws_are_part_of_larger_ones() -> None:
    for pairing in ("stems", "independent"):
        draws = [ids(select(samples, mixture(n, pairing=pairing))) for n in (5, 10, 20, None)]
        assert draws[0] < draws[1] < draws[2] < draws[3]
        assert len(draws[3]) == 120


def test_stems_pair_across_domains_and_independent_does_not() -> None:
    for pairing, same in (("stems", True), ("independent", False)):
        chosen = select(samples, mixture(10, pairing=pairing))
        pairs = [{r.pair for r in chosen if r.domain == domain} for domain in DOMAINS]
        assert (pairs[0] == pairs[1] == pairs[2]) is same


def test_another_domain_or_a_missing_file_moves_nothing_else() -> None:
    alone = ids(select(samples, mixture(10, ("s/a",))))
    beside = {r.id for r in select(samples, mixture(10)) if r.domain == "s/a"}
    assert alone == beside
    gone = sorted(alone)[0]

    def fewer(domain: str, split: str) -> list[SampleRef]:
        return [r for r in there(domain, split) if r.id != gone]

    assert len(alone - ids(select(ranked(fewer), mixture(10, ("s/a",))))) == 1


def test_mixture_seed_changes_the_draw() -> None:
    assert ids(select(samples, mixture(10, seed=1))) != ids(select(samples, mixture(10, seed=0)))


def test_within_a_third_independent_draws_stay_inside_it() -> None:
    third = {r.pair for r in select(samples, mixture(13, ("s/a",)))}
    drawn = select(samples, mixture(6, pairing="independent", within=13))
    assert {r.pair for r in drawn} <= third
    assert len({r.pair for r in drawn}) > 6, "the domains draw different photographs"


def test_disjoint_skips_the_photographs_that_the_ancestors_saw() -> None:
    seen = {r.stem for r in select(samples, mixture(10, ("s/b",)))}
    fresh = select(samples, mixture(10, ("s/a",), pairing="disjoint"), seen)
    assert not {r.stem for r in fresh} & seen
    assert len(fresh) == 10


def test_skip_leaves_out_what_was_seen() -> None:
    both, old, new = (ids(select(samples, mixture(n, ("s/a",), skip=skip))) for n, skip in ((20, 0), (10, 0), (10, 10)))
    assert old | new == both
    assert not old & new


@pytest.mark.parametrize(
    ("count", "pairing", "there", "cure"), [(41, "stems", 40, "fewer"), (36, "disjoint", 35, "fewer")]
)
def test_more_than_there_is_says_how_many_there_are(count: int, pairing: str, there: int, cure: str) -> None:
    with pytest.raises(DataError, match=rf"s/a has {there} train images.*asks for {count}.*{cure}"):
        select(samples, mixture(count, ("s/a",), pairing=pairing), {f"s/{k}" for k in range(5)})


def test_empty_domain_is_an_error() -> None:
    with pytest.raises(DataError, match="has 0 train images"):
        select(ranked(lambda domain, split: []), mixture(None, ("s/a",)))


def test_replay_splits_evenly_and_the_remainder_goes_in_name_order() -> None:
    base = by_rank(sorted(select(samples, mixture(10))))
    chosen = replayed(base, 8)
    assert as_list(chosen, "d", {}).counts == {"s/a": 3, "s/b": 3, "s/c": 2}
    first = {r.pair for r in select(samples, mixture(3, ("s/a",)))}
    assert {r.pair for r in chosen if r.domain == "s/a"} == first, "by rank, not by name"
    assert ids(replayed(base, 4)) < ids(chosen)
    with pytest.raises(DataError, match="replay asks for 11 images of s/a"):
        replayed(base, 33)
