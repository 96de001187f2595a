"""What a task of images asks of a cell's lists, and what it takes where a sweep file leaves it open."""

from collections.abc import Mapping, Sequence

from dfloc import measures
from dfloc.config import SampleList, Task
from dfloc.data import dolos
from dfloc.errors import ConfigError
from dfloc.metrics import protocols
from dfloc.metrics.image_rows import FAKE, REAL
from dfloc.sweep.sweep_keys import TrialAsk


def classes(task: Task, train: SampleList, domains: Sequence[str], families: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a trial tells apart: real first, then fake, or the families that it is trained on, in study order.

    Args:
        task: of the cell.
        train: what it is trained on.
        domains: of the study.
        families: that a person gave.

    Raises:
        ConfigError: there is nothing to tell apart.
    """
    if task == "localize":
        return ()
    given = [domain for domain in dict.fromkeys([*domains, *train.counts]) if train.counts.get(domain)]
    fakes = dict.fromkeys(dolos.family(domain, families) for domain in given if not dolos.is_real(domain))
    lacking = "fakes" if not fakes else "photographs" if not any(map(dolos.is_real, given)) else ""
    if lacking:
        raise ConfigError(f"task {task} learns from {lacking} too: add some, as in train.domains=[all, real]")
    return (REAL, FAKE) if task == "detect" else (REAL, *fakes)


def refuse_lacking(task: Task, found: Sequence[str], valid: SampleList, families: Mapping[str, str]) -> None:
    """Return if a validation list has images of every class.

    Raises:
        ConfigError: it lacks one, so that AP and accuracy are not defined.
    """
    there = {
        REAL if dolos.is_real(domain) else dolos.family(domain, families) for domain, n in valid.counts.items() if n
    }
    if task == "detect":
        there = {name if name == REAL else FAKE for name in there}
    if lacking := [name for name in found if name not in there]:
        raise ConfigError(f"the validation images have none of {', '.join(lacking)}; give train.valid for each domain")


def filled(ask: TrialAsk) -> TrialAsk:
    """Return a cell that selects by what its task measures first, where the file leaves it open.

    Raises:
        ConfigError: it selects, or follows, what the task does not measure.
    """
    measured = measures.MEASURED[ask.task]
    written = {"select": ask.select} if "select" in ask.model_fields_set else {}
    written |= {"schedule.watch": ask.schedule.watch} if "watch" in ask.schedule.model_fields_set else {}
    for name, value in written.items():
        if value not in (*measured, "last"):
            raise ConfigError(f"trial.{name}: task {ask.task} does not measure {value}; use {', '.join(measured)}")
    return ask if "select" in written else ask.model_copy(update={"select": measured[0]})


def refuse_idle(ask: TrialAsk, train: SampleList, protocol: str, explained: bool = False) -> None:
    """Return if a cell's targets say something, and its answers are what the protocol measures.

    Raises:
        ConfigError: targets that are the same for every image or that nothing reads, or a protocol of maps for a task
            that gives none.
    """
    if ask.targets == "label" and ask.task != "localize":
        raise ConfigError(f"trial.targets: label is what task {ask.task} learns anyhow; leave it out")
    if ask.targets == "label" and not any(map(dolos.is_real, train.counts)):
        raise ConfigError("trial.targets: label makes every pixel of every image fake; add real to train.domains")
    if ask.task != "localize" and not explained and protocols.find(protocol).reads == "map":
        raise ConfigError(
            f"task {ask.task} gives no map, which protocol {protocol} measures; use protocol: image-1, or evaluate."
            "explain: grad-cam"
        )
