"""What a task of images asks of a cell's lists, and what it takes where a sweep file leaves it open."""

from collections.abc import Mapping, Sequence

from dfloc import measures
from dfloc.config import SampleList, Task
from dfloc.data import dolos
from dfloc.engine.labels import FAKE, REAL
from dfloc.errors import ConfigError
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
    """Return a cell with what its task selects and follows by where the file leaves it open: the first it measures.

    Raises:
        ConfigError: it selects, or follows, what the task does not measure.
    """
    measured = measures.MEASURED[ask.task]
    update: dict[str, object] = {}
    if "select" not in ask.model_fields_set:
        update["select"] = measured[0]
    if "watch" not in ask.schedule.model_fields_set:
        update["schedule"] = ask.schedule.model_copy(update={"watch": measured[0]})
    made = ask.model_copy(update=update)
    for name, value in (("select", made.select), ("schedule.watch", made.schedule.watch)):
        if value not in (*measured, "last"):
            raise ConfigError(f"trial.{name}: task {made.task} does not measure {value}; use {', '.join(measured)}")
    return made
