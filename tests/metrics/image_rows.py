"""Rows of image-level evaluations, as an evaluation writes them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

PIXELS = ("tp", "fp", "fn", "tn", "mask_area", "mean_prob", "spread")  # null where there is no map


def detected(
    protocol: str, domain: str, scores: Sequence[float], *, stems: Sequence[str] | None = None, **more: Sequence[object]
) -> pa.Table:
    """Rows of a detector: a domain `<source>/real` is real."""
    real = domain.endswith("/real")
    called = ["fake" if score > 0.5 else "real" for score in scores]
    return _table(protocol, domain, "real" if real else "fake", called, {"score": list(scores)} | more, stems)


def attributed(
    protocol: str, domain: str, kind: str, probs: Mapping[str, Sequence[float]], stems: Sequence[str] | None = None
) -> pa.Table:
    """Rows of a classifier from a column of probability for each class, real first."""
    prob_NK = np.stack(list(probs.values()), axis=1)
    names = list(probs)
    columns = {
        "score": (1 - prob_NK[:, 0]).tolist(),
        **{f"prob_{name}": list(values) for name, values in probs.items()},
    }
    return _table(protocol, domain, kind, [names[k] for k in prob_NK.argmax(1)], columns, stems)


def called_as(protocol: str, domain: str, kind: str, classes: Sequence[str], called: Mapping[str, int]) -> pa.Table:
    """Rows of a classifier that calls so many images so."""
    words = np.repeat(list(called), list(called.values()))
    probs = {name: np.where(words == name, 0.9, 0.1 / (len(classes) - 1)) for name in classes}
    return attributed(protocol, domain, kind, probs)


def _table(
    protocol: str,
    domain: str,
    kind: str,
    called: Sequence[str],
    columns: Mapping[str, Sequence[object]],
    stems: Sequence[str] | None,
) -> pa.Table:
    num = len(called)
    told = {"domain": domain, "split": "test", "condition": "clean", "protocol": protocol, "checkpoint": "best"}
    return pa.table(
        {
            "id": [f"{domain}/test/{k:04}.png" for k in range(num)],
            "stem": list(stems) if stems else [f"{domain.partition('/')[0]}/{k:04}" for k in range(num)],
            **{name: [value] * num for name, value in (told | {"trial": "t", "class": kind}).items()},
            "called": list(called),
            **{name: pa.nulls(num) for name in PIXELS},
            **columns,
        }
    )
