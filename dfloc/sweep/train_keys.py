"""The vocabulary of a sweep file: which samples a cell trains and validates on."""

from typing import Annotated, Literal

from pydantic import Field

from dfloc.data.mixture import Pairing
from dfloc.frozen import Frozen
from dfloc.sweep.search_space import Count

Number = Count | Literal["all"]
ByDomain = Annotated[dict[str, Number], Field(min_length=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Mode = Literal["restart", "cumulative", "incremental"]


class TrainAsk(Frozen):
    """Which samples a cell trains and validates on.

    Attributes:
        domains: all | all_but_held_out | real (the real images of the study's sources) | one domain, of any kind | a
            list of these, in any order.
        count: images of each domain, or all that there are; by domain, or with the keys `first` (of the study's
            domains), `real` and `rest`.
        valid: validation images of each of `valid_domains`.
        valid_domains: as `domains`; the training domains where it is left out.
        pairing: stems | independent | disjoint.
        within: draw from the first so many source images only (a third).
        replay: equal = add as many images of the parent's training list.
        mode: restart (from the parent) | cumulative (from the model of the next smaller count, on all images so far) |
            incremental (likewise, on the new images alone).
    """

    domains: str | Names
    count: Number | ByDomain
    valid: Number | ByDomain
    valid_domains: str | Names | None = None
    pairing: Pairing = "stems"
    within: Count | None = None
    replay: Literal["none", "equal"] = "none"
    mode: Mode = "restart"

    @property
    def judges(self) -> str | tuple[str, ...]:
        """The domains that it validates on."""
        return self.valid_domains or self.domains
