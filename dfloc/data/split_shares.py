"""Which split each photograph of one's own is in, by the shares that are asked for."""

import hashlib
from collections.abc import Sequence

from dfloc.data.dolos import SPLITS, Sample
from dfloc.data.manifest import Split
from dfloc.errors import ConfigError, DataError
from dfloc.ids import SampleId


def divided(samples: Sequence[Sample], shares: str, domain: str) -> list[Sample]:
    """Give each photograph to a split, by a hash of its name, so that the split has the share that was asked.

    Args:
        samples: of one domain, and real images beside them.
        shares: per cent, `80/10/10`, or the split that all are of.
        domain: whose images every split that is asked for must have.

    Raises:
        ConfigError: the shares cannot be understood.
        DataError: there are too few photographs for them.
    """
    if shares in SPLITS:
        return [_moved(sample, split) for sample in samples for split in SPLITS if split == shares]
    per_cent = _shares(shares)
    stems = sorted({sample.stem for sample in samples}, key=lambda stem: hashlib.sha256(stem.encode()).hexdigest())
    bounds = [round(len(stems) * sum(per_cent[: place + 1]) / 100) for place in range(3)]
    split_of: dict[str, Split] = {}
    for index, stem in enumerate(stems):
        split_of[stem] = next(split for split, bound in zip(SPLITS, bounds, strict=True) if index < bound)
    there = {split_of[sample.stem] for sample in samples if sample.domain == domain}
    missing = [split for split, share in zip(SPLITS, per_cent, strict=True) if share and split not in there]
    if missing:
        raise DataError(
            f"{len(samples)} images show {len(stems)} source images (--photograph, photograph= in --own, says which "
            f"file shows which): too few for a {missing[0]} split of {shares}"
        )
    return [_moved(sample, split_of[sample.stem]) for sample in samples]


def _moved(sample: Sample, split: Split) -> Sample:
    return sample._replace(split=split, id=str(SampleId.of(sample.id)._replace(split=split)))


def _shares(text: str) -> list[int]:
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts) or sum(map(int, parts)) != 100:
        raise ConfigError(
            f'split "{text}" cannot be used: expected train/valid/test in per cent, as 80/10/10, or one of these words'
        )
    return [int(part) for part in parts]
