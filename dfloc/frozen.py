"""What settings are made of: values that cannot change, strict numbers, and the digest of what they say."""

import hashlib
import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Whole = Annotated[int, Field(strict=True)]  # neither true, nor 3.0, nor a text of digits
Real = Annotated[float, Field(strict=True)]
Fraction = Annotated[Real, Field(ge=0, le=1)]


class Frozen(BaseModel):
    """A value: it cannot change, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def canonical(value: object) -> str:
    """Return canonical JSON: sorted keys, no spaces, shortest floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: object) -> str:
    """Return the sha256 of a value's canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
