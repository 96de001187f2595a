"""What a study's numbers should come out as: a published number, and by how much ours may be away from it."""

from typing import Annotated

from pydantic import Field, model_validator

from dfloc.axis import Value
from dfloc.frozen import Frozen, Real


class Check(Frozen):
    """A number of a study that is known beforehand.

    Attributes:
        name: what is checked, in a few words.
        stage: whose training: `stage` or `stage/case`.
        axes: values of the stage's axes that tell the training; none where it has one.
        domain: the test domain, in full.
        metric: a metric of images of its protocol; its first one where it is left out.
        published: the number's place in the published tables: table, row, column.
        value: the number itself, a fraction, where no table has it.
        tolerance: by how much ours may be away, a fraction.
        because: why by so much.
    """

    name: Annotated[str, Field(min_length=1)]
    stage: Annotated[str, Field(min_length=1)]
    axes: dict[str, Value] = Field(default_factory=dict)
    domain: str
    metric: str | None = None
    published: Annotated[tuple[str, ...], Field(min_length=3, max_length=3)] | None = None
    value: Real | None = None
    tolerance: Annotated[Real, Field(ge=0)]
    because: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _one(self) -> "Check":
        if (self.published is None) == (self.value is None):
            raise ValueError("a check has `published: [table, row, column]` or a `value`: one of them")
        return self
