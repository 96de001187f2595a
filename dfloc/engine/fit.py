"""One loop for one pack of trials; knows neither Ray nor MLflow."""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dfloc import arithmetic, repro
from dfloc.config import TrialSpec
from dfloc.engine.batches import Source
from dfloc.engine.member import Divergence, Member, Valid
from dfloc.ledger import EpochRecord
from dfloc.metrics import validation

__all__ = ["EpochResult", "Member", "epoch_batches", "fit"]


class EpochResult(NamedTuple):
    """What one epoch made of one member: a record, or the divergence that ended it."""

    member: Member
    record: EpochRecord | None
    divergence: Divergence | None = None


def fit(pack: Sequence[Member], source: Source, valid: Source, num_threads: int = 1) -> Iterator[list[EpochResult]]:
    """Train a pack of members over one stream of batches, epoch by epoch.

    A restored member goes on after its last epoch; the others wait for none and are waited for by none. A member whose
    loss is no finite number ends there, and its siblings go on.

    Args:
        pack: members with the same samples, maps, augmentation, batch, seed and epoch length, on one device.
        source: training samples.
        valid: validation samples.
        num_threads: CPU threads; the numbers depend on it.

    Yields:
        One result for each member that had a part in the epoch. All members are as they were at the epoch's end, so
        that their `state()` can be saved.
    """
    assert all(_stream(member.spec) == _stream(pack[0].spec) for member in pack)
    with arithmetic.exact(num_threads):
        for member in pack:
            member.start(source)
        for epoch in range(min(member.epoch for member in pack) + 1, max(member.spec.epochs for member in pack) + 1):
            members = [member for member in pack if member.epoch == epoch - 1 and not member.ended]
            if members:
                yield _epoch(members, source, valid)


def epoch_batches(spec: TrialSpec, num_samples: int, epoch: int) -> Iterator[list[int]]:
    """Yield the positions of each batch of an epoch (from 1).

    An epoch is one permutation of the list, its last batch short where it does not divide. With `epoch_steps` it is so
    many full batches of an endless stream of permutations, which goes on where the epoch before ended. Either is drawn
    from seed and number alone, so that nothing need be carried to go on.
    """
    if spec.epoch_steps is None:
        start, stop = (epoch - 1) * num_samples, epoch * num_samples
    else:
        start, stop = (epoch - 1) * spec.epoch_steps * spec.batch, epoch * spec.epoch_steps * spec.batch
    stream = _stream_positions(spec.seed, num_samples, start, stop)
    for _ in range(start, stop, spec.batch):
        yield list(itertools.islice(stream, spec.batch))


def _stream_positions(seed: int, num_samples: int, start: int, stop: int) -> Iterator[int]:
    for number in range(start // num_samples + 1, -(-stop // num_samples) + 1):
        order = torch.randperm(num_samples, generator=repro.generator(seed, "order", number)).tolist()
        begun = (number - 1) * num_samples
        yield from order[max(start - begun, 0) : stop - begun]


def _stream(spec: TrialSpec) -> tuple[object, ...]:
    labels = (spec.targets, spec.task, spec.classes, spec.labelled and spec.labelled.digest, spec.labels)
    lists = (spec.train.digest, spec.valid.digest, labels, spec.maps, spec.augment)
    return (*lists, spec.decoder.reads_tokens, spec.batch, spec.epoch_steps, spec.seed)


def _epoch(members: Sequence[Member], source: Source, valid: Source) -> list[EpochResult]:
    start = time.perf_counter()
    _train(members, source)
    results = [EpochResult(member, None, found) for member in members if (found := member.diverged())]
    alive = [member for member in members if not member.ended]
    for member, worth in zip(alive, _validate(alive, valid), strict=True):
        if divergence := member.diverged(worth):
            results.append(EpochResult(member, None, divergence))
        else:
            results.append(EpochResult(member, member.end_epoch(worth, time.perf_counter() - start)))
    return results


def _train(members: Sequence[Member], source: Source) -> None:
    trained = [member for member in members if member.optimizer]
    if not trained:
        return
    for member in trained:
        member.decoder.train()
    epoch = trained[0].epoch + 1
    for indices in epoch_batches(trained[0].spec, source.num_samples, epoch):
        read = _read(source, indices, epoch, trained[0].device)
        for member in trained:
            member.step(*read)


@torch.inference_mode()
def _validate(members: Sequence[Member], valid: Source) -> list[Valid]:
    if not members:
        return []
    found = [validation.of_task(member.spec.task) for member in members]
    sums = [torch.zeros((), dtype=torch.float64) for _ in members]
    for member in members:
        member.decoder.eval()
    everything = list(range(valid.num_samples))
    for start in range(0, valid.num_samples, members[0].spec.batch):
        indices = everything[start : start + members[0].spec.batch]
        x_BCHW, target_BHW, label_B = _read(valid, indices, 0, members[0].device)
        for member, measured, total in zip(members, found, sums, strict=True):
            loss, prob = member.loss_and_prob(x_BCHW, target_BHW, label_B)
            measured.add(prob, target_BHW if label_B is None else label_B)
            total += (loss.double() * len(indices)).cpu()
    return [
        measured.worth() | {"loss": float(total / valid.num_samples)}
        for measured, total in zip(found, sums, strict=True)
    ]


def _read(
    source: Source, indices: Sequence[int], epoch: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None]:
    batch = source.batch(indices, epoch)
    label_B = None if batch.label_B is None else batch.label_B.to(device)
    return batch.x.to(device, memory_format=torch.channels_last), batch.target_BHW.to(device), label_B
