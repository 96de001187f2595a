import hashlib

import pytest
import torch

from dfloc import repro


def test_seed_is_the_hash_of_its_parts() -> None:
    digest = hashlib.sha256(b"dfloc\x1f3\x1forder\x1f2\x1f").digest()
    expected = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    drawn = torch.rand(5, generator=repro.generator(3, "order", 2))
    assert torch.equal(drawn, torch.rand(5, generator=expected))


def test_each_purpose_epoch_sample_and_seed_draws_its_own() -> None:
    generators = [
        repro.generator(0, "order", 1),
        repro.generator(0, "order", 2),
        repro.generator(0, "init", 1),
        repro.generator(1, "order", 1),
        repro.generator(0, "order", 1, "a"),
    ]
    assert len({float(torch.rand(1, generator=g)) for g in generators}) == len(generators)


def test_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(3, generator=repro.generator(0, "init"))
    assert torch.equal(before, torch.get_rng_state())


def test_what_reads_the_global_generator_draws_from_the_seed_and_leaves_it_as_it_was() -> None:
    before = torch.get_rng_state()
    with repro.seeded(3):
        first = torch.rand(4)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(1)
    with repro.seeded(3):
        assert torch.equal(first, torch.rand(4))
    with repro.seeded(4):
        assert not torch.equal(first, torch.rand(4))
    assert torch.equal(first, torch.rand(4, generator=torch.Generator().manual_seed(3)))


def test_the_global_generator_is_put_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(KeyError), repro.seeded(3):
        raise KeyError(torch.rand(2))
    assert torch.equal(before, torch.get_rng_state())


def test_environment_is_an_allow_list() -> None:
    found = repro.environment("cpu", 1)
    known = {"dfloc", "python", "system", "device", "threads", "cuda", *repro.RECORDED_PACKAGES}
    assert set(found) <= known
    assert found["torch"] == torch.__version__.partition("+")[0]
    assert found["threads"] == "1"
