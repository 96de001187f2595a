"""The vocabulary of a sweep file: which samples a cell trains and validates on."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dfloc.config import Labels
from dfloc.data.mixture import Pairing
from dfloc.errors import ConfigError
from dfloc.frozen import Frozen, Whole
from dfloc.sweep.search_space import Count

Number = Count | Literal["all"]
Any0 = Annotated[Whole, Field(ge=0)]
ByDomain = Annotated[dict[str, Number], Field(min_length=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Mode = Literal["restart", "cumulative", "incremental"]


class LabelsAsk(Frozen):
    """Images that are trained on by their labels alone, beside those of which the masks are read.

    Attributes:
        domains: as those of `train`; of a domain that has masks too, images that follow in the same order.
        count: images of each domain, 0 for none; by domain likewise.
        targets: label = every pixel of a fake is fake, of a real real | shuffled = each takes another one's label, a
            control.
    """

    domains: str | Names
    count: Any0 | dict[str, Any0]
    targets: Literal["label", "shuffled"] = "label"

    @property
    def kind(self) -> Labels:
        """Whose labels they are, as a trial's spec has it."""
        return "shuffled" if self.targets == "shuffled" else "own"

    @property
    def is_empty(self) -> bool:
        """Whether it asks for no image."""
        return not any(self.count.values() if isinstance(self.count, Mapping) else [self.count])


class TrainAsk(Frozen):
    """Which samples a cell trains and validates on.

    Attributes:
        domains: all | all_but_held_out | real (the real images of the study's sources) | one domain, of any kind | a
            list of these, in any order.
        count: images of each domain, or all that there are; by domain, or with the keys `first` (of the study's
            domains), `real` and `rest`; beside `labels` it may be 0.
        labels: images beside these, by their labels alone; `train` may be a list of two parts instead, the other one
            with `targets: label`.
        valid: validation images of each of `valid_domains`.
        valid_domains: as `domains`; the training domains where it is left out.
        pairing: stems | independent | disjoint.
        within: draw from the first so many source images only (a third).
        replay: equal = add as many images of the parent's training list.
        mode: restart (from the parent) | cumulative (from the model of the next smaller count, on all images so far) |
            incremental (likewise, on the new images alone).
    """

    domains: str | Names
    count: Number | Any0 | ByDomain
    valid: Number | ByDomain
    labels: LabelsAsk | None = None
    valid_domains: str | Names | None = None
    pairing: Pairing = "stems"
    within: Count | None = None
    replay: Literal["none", "equal"] = "none"
    mode: Mode = "restart"

    @model_validator(mode="after")
    def _fit(self) -> "TrainAsk":
        if self.labels is None and self.count == 0:
            raise ValueError("count should be 1 or more where no `labels` name images beside")
        if self.labels is not None and (self.replay != "none" or self.mode != "restart"):
            raise ValueError("labels stand beside images that are trained on once: leave out replay and mode")
        return self

    @property
    def judges(self) -> str | tuple[str, ...]:
        """The domains that it validates on."""
        return self.valid_domains or self.domains

    @property
    def named(self) -> tuple[str | tuple[str, ...], ...]:
        """Every list of domains that it trains or validates on."""
        return (self.domains, self.judges, *([self.labels.domains] if self.labels else []))

    @property
    def is_empty(self) -> bool:
        """Whether it asks for no image."""
        return self.count == 0 and (self.labels is None or self.labels.is_empty)


def in_one(parts: list[Any], where: str) -> dict[str, Any]:
    """Return `train` as one mapping where a file lists its parts: with masks, and with `targets: label`.

    Raises:
        ConfigError: it is no list of these two.
    """
    weak = [part for part in parts if isinstance(part, Mapping) and part.get("targets", "own") != "own"]
    whole = [part for part in parts if isinstance(part, Mapping) and part not in weak]
    if len(parts) != 2 or len(weak) != 1 or len(whole) != 1:
        raise ConfigError(
            f"{where}: a list under `train` has two parts, one of them with `targets: label`: [{{domains: held_out, "
            "count: n, valid: 300}, {domains: [held_out, real], count: m, targets: label}]; several domains with masks "
            "stand in one part, with a count for each; where all are labels say trial.targets=label"
        )
    return {key: value for key, value in whole[0].items() if key != "targets"} | {"labels": dict(weak[0])}
