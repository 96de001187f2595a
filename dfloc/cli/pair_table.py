"""What `dfloc evaluate` says of fakes beside reals: a table of numbers with intervals, and what images are called."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from dfloc.metrics.image_rows import Called
    from dfloc.sweep.pair_scores import PairNumber, PairScore

SIDE_BY_SIDE = 5  # pairs of one table


def show(console: "Console", pairs: "Sequence[PairScore]", called: "Called | None", protocol: str) -> None:
    """Print the numbers of each pair, a column each, the threshold that they rest on, and the confusion."""
    from rich.table import Table

    for start in range(0, len(pairs), SIDE_BY_SIDE):
        part = pairs[start : start + SIDE_BY_SIDE]
        table = Table(box=None, pad_edge=False)
        table.add_column("fakes beside reals, 95 %", no_wrap=True)
        for pair in part:
            table.add_column(pair.fakes, justify="right", no_wrap=True)
        table.add_row("images", *(f"{pair.num_fakes:,} + {pair.num_reals:,}" for pair in part))
        for key in dict.fromkeys(key for pair in part for key in pair.numbers):
            table.add_row(key, *(_number(pair.numbers.get(key)) for pair in part))
        console.print()
        console.print(table)
    if pairs:
        console.print(f"reals: {', '.join(dict.fromkeys(name for pair in pairs for name in pair.reals))}")
        console.print(_threshold(pairs, protocol), highlight=False)
    if called is not None:
        _show_called(console, called)


def columns(pairs: "Sequence[PairScore]", domain: str) -> dict[str, Any]:
    """Return the columns of a CSV that say of a domain of fakes what it is worth beside reals; empty of any other."""
    found: dict[str, Any] = {}
    for pair in (pair for pair in pairs if pair.fakes == domain):
        for key, number in pair.numbers.items():
            low, high = number.interval or ("", "")
            found |= {key: number.value, f"{key}_low": low, f"{key}_high": high}
        found |= {"image_threshold": "" if pair.threshold is None else pair.threshold, "reals": " ".join(pair.reals)}
    return found


def as_json(pair: "PairScore") -> dict[str, Any]:
    """Return a pair as a JSON file has it."""
    return {
        "fakes": pair.fakes,
        "reals": list(pair.reals),
        "num_fakes": pair.num_fakes,
        "num_reals": pair.num_reals,
        "threshold": pair.threshold,
        "threshold_source": "validation" if pair.threshold is not None else "none",
        "num_valid": pair.num_valid,
        "numbers": {
            key: {"value": number.value, "interval": number.interval and list(number.interval)}
            for key, number in pair.numbers.items()
        },
    }


def _number(number: "PairNumber | None") -> str:
    if number is None:
        return "-"
    ends = number.interval
    return f"{number.value:.3f} ({ends[0]:.3f}-{ends[1]:.3f})" if ends else f"{number.value:.3f}"


def _threshold(pairs: "Sequence[PairScore]", protocol: str) -> str:
    """Return which threshold the numbers rest on, and where it came from."""
    from dfloc.metrics import protocols

    rule = protocols.find(protocol)
    fixed = f"called fake: score over {rule.threshold:g}, as protocol {protocol} has it"
    chosen = next((pair for pair in pairs if pair.threshold is not None), None)
    if chosen is not None:
        return (
            f"{fixed}; image_accuracy_valid: over {chosen.threshold:.3f}, the best on the trial's own "
            f"{chosen.num_valid:,} validation images"
        )
    if rule.reads == "image" and rule.chooses:
        return f"{fixed}; no threshold was chosen: the trial's own validation images, fakes and reals, are not scored"
    return fixed if rule.reads == "image" else f"numbers of whole images are of each map's mean, by protocol {protocol}"


def _show_called(console: "Console", called: "Called") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("images of, called", no_wrap=True)
    for name in called.called:
        table.add_column(name, justify="right", no_wrap=True)
    for name, counts in zip(called.true, called.counts.tolist(), strict=True):
        table.add_row(name, *(f"{count:,}" for count in counts))
    console.print()
    console.print(table)
