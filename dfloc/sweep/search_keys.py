"""The vocabulary of `search:` in a sweep file: what is drawn, how, and by what it is judged."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from dfloc.axis import frozen
from dfloc.config import Frozen, Whole
from dfloc.planned import SearchAxis
from dfloc.sweep.search_space import Space

Count = Annotated[Whole, Field(ge=1)]

OBJECTIVES = ("valid", "leave-one-training-domain-out")


class AxisAsk(SearchAxis):
    """One axis of a search as a user writes it.

    A list gives choices; `{low, high, log}` a range, of whole numbers where both ends are whole; `{of: AXIS, choices:
    {value of AXIS: [...]}}` choices that depend on another axis.
    """

    @model_validator(mode="before")
    @classmethod
    def _written(cls, value: object) -> object:
        if isinstance(value, list | tuple):
            return {"choices": value}
        if not isinstance(value, Mapping):
            raise ValueError("an axis of a search is a list of choices, or {low, high, log}")
        given = dict(value)
        if isinstance(given.get("choices"), Mapping):
            names = [str(frozen(key)) for key in given["choices"]]
            if again := next((name for name in names if names.count(name) > 1), ""):
                raise ValueError(f"choices has {again} twice, written in two ways; leave one of them out")
            given["choices"] = dict(zip(names, given["choices"].values(), strict=True))
        if all(type(given.get(end)) is int for end in ("low", "high")):
            given.setdefault("whole", True)
        return given

    @model_validator(mode="after")
    def _whole(self) -> "AxisAsk":
        lists = self.choices.values() if isinstance(self.choices, dict) else [self.choices]
        if self.low is None and self.high is None:
            if not lists or not all(lists):
                raise ValueError("an axis needs one choice at least")
            if (self.of is None) == isinstance(self.choices, dict):
                raise ValueError("choices that depend on another axis are {of: AXIS, choices: {its value: [...]}}")
            if any(choices.count(value) > 1 for choices in lists for value in choices):
                raise ValueError("an axis names each choice once")
            return self
        if self.low is None or self.high is None or self.choices or self.of:
            raise ValueError("a range has low and high, and no choices")
        if self.low >= self.high:
            raise ValueError(f"low should be less than high, but they are {self.low:g} and {self.high:g}")
        if self.whole and (self.low % 1 or self.high % 1):
            raise ValueError(f"a whole range has whole ends, but they are {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithm needs low > 0, but low is {self.low:g}")
        return self


class SamplerAsk(Frozen):
    """Which points are drawn: tpe (Optuna's, multivariate) or random.

    Attributes:
        name: tpe | random.
        startup: points that tpe draws at random before it learns.
        seed: of the draws.
    """

    name: Literal["tpe", "random"] = "tpe"
    startup: Count = 10
    seed: Annotated[Whole, Field(ge=0)] = 0


class PrunerAsk(Frozen):
    """Which trials are stopped early: asha (those that are not among the best of a rung) or none.

    Attributes:
        name: asha | none.
        min_epochs: the first rung; the next ones are at `factor` times as many epochs each.
        factor: of the trials that reached a rung, the best one in so many goes on.
    """

    name: Literal["asha", "none"] = "asha"
    min_epochs: Count = 1
    factor: Annotated[Whole, Field(ge=2)] = 3


class SearchAsk(Frozen):
    """What is searched.

    Attributes:
        stage: whose trials are drawn; its body names the axes as it would name those of a grid.
        trials: points to draw.
        space: axis -> what may be drawn; names as in a grid.
        objective: valid (mean validation IoU over the mixture's domains) | leave-one-training-domain-out (each point
            is trained once without each domain of the mixture and validated on it; their mean).
        sampler: how points are drawn.
        pruner: which trials are stopped early.
    """

    stage: str
    trials: Count
    space: Annotated[dict[str, AxisAsk], Field(min_length=1)]
    objective: str = "valid"
    sampler: SamplerAsk = SamplerAsk()
    pruner: PrunerAsk = PrunerAsk()

    @field_validator("objective")
    @classmethod
    def _sees_no_test(cls, value: str) -> str:
        if value not in OBJECTIVES:
            why = "a search never looks at test images" if value.startswith("test") else "there is no other"
            raise ValueError(f"should be {' or '.join(OBJECTIVES)}: {why}")
        return value

    @field_validator("sampler", "pruner", mode="before")
    @classmethod
    def _bare_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("space")
    @classmethod
    def _in_order(cls, value: dict[str, AxisAsk]) -> dict[str, AxisAsk]:
        Space(value)
        return value
