"""What a task of images asks of a cell's lists, and what it takes where a sweep file leaves it open."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from dfloc import measures, registry
from dfloc.config import DecoderSpec, SampleList, Task
from dfloc.data import dolos
from dfloc.engine import labels
from dfloc.errors import ConfigError
from dfloc.metrics import protocols
from dfloc.metrics.image_rows import FAKE, REAL
from dfloc.models import answers
from dfloc.planned import PlannedTrial
from dfloc.sweep.sweep_keys import TrialAsk


def classes(task: Task, train: SampleList, domains: Sequence[str], families: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a trial tells apart: real first, then fake, or the families that it is trained on, in study order.

    Args:
        task: of the cell.
        train: what it is trained on.
        domains: of the study.
        families: that a person gave.

    Raises:
        ConfigError: there is nothing to tell apart, or a family is called as what is none.
    """
    if task == "localize":
        return ()
    given = [domain for domain in dict.fromkeys([*domains, *train.counts]) if train.counts.get(domain)]
    fakes = dict.fromkeys(dolos.family(domain, families) for domain in given if not dolos.is_real(domain))
    lacking = "fakes" if not fakes else "photographs" if not any(map(dolos.is_real, given)) else ""
    if lacking:
        raise ConfigError(f"task {task} learns from {lacking} too: add some, as in train.domains=[all, real]")
    if task == "attribute" and (taken := fakes.keys() & {REAL, FAKE}):
        raise ConfigError(f"no class of generators can be called {taken.pop()}; give its domain another family=")
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


def refuse_other(found: Sequence[str], parent: PlannedTrial | None) -> None:
    """Return if a trial tells apart what the trial does whose weights it starts from, in the same order.

    Raises:
        ConfigError: it does not, so that a weight would stand for another class, or for none.
    """
    before = labels.classes(parent.spec) if parent else tuple(found)
    if before != tuple(found):
        old, new = (", ".join(names) or "pixels" for names in (before, found))
        raise ConfigError(
            f"it starts from weights that tell apart {old}, but is to tell apart {new}; give both the same task, and "
            "train.domains of the same families"
        )


def notes(trials: Iterable[PlannedTrial], families: Mapping[str, str]) -> Iterator[str]:
    """Yield what must be said of classes: test domains of which there is none, and domains that are one.

    Args:
        trials: of a study.
        families: that a person gave.
    """
    said: dict[str, None] = {}
    for trial in (each for each in trials if each.spec.task == "attribute"):
        place, known = "/".join(filter(None, [trial.stage, trial.case])), trial.spec.classes
        for name in known[1:]:
            one = [domain for domain in trial.spec.train.counts if dolos.family(domain, families) == name]
            if len(one) > 1:
                said[f"{place} takes {' and '.join(one)} for one class, {name}: they are of one family"] = None
        tested = dict.fromkeys(each.domain for each in trial.evaluations if each.split == "test")
        new = [one for one in tested if not dolos.is_real(one) and dolos.family(one, families) not in known]
        if new:
            words = (
                "has no recall, only what it is called"
                if len(new) == 1
                else "have no recall, only what they are called"
            )
            said[f"{place} tells apart {', '.join(known)}: {', '.join(new)} {words}"] = None
    yield from said


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


def refuse_twice(ask: TrialAsk) -> None:
    """Return if a cell with `labels` beside its masks says what its targets are once.

    Raises:
        ConfigError: its targets, or its task, say it of all its images.
    """
    if ask.task != "localize":
        raise ConfigError(f"train.labels: task {ask.task} learns from labels alone anyhow; count all under train.count")
    if ask.targets != "own":
        cure = "leave out trial.targets" if ask.targets == "label" else "say train.labels.targets=shuffled instead"
        raise ConfigError(f"train.labels stand beside trial.targets={ask.targets}, which is of all images; {cure}")


def refuse_idle(ask: TrialAsk, train: SampleList, protocol: str, explained: bool = False) -> None:
    """Return if a cell's targets say something, and its answers, or their explanation, are what the protocol measures.

    Raises:
        ConfigError: targets that are the same for every image or that nothing reads, or a protocol of maps for a task
            that gives none.
    """
    if ask.targets == "label" and ask.task != "localize":
        raise ConfigError(f"trial.targets: label is what task {ask.task} learns anyhow; leave it out")
    if ask.targets == "label" and not any(map(dolos.is_real, train.counts)):
        raise ConfigError("trial.targets: label makes every pixel of every image fake; add real to train.domains")
    if ask.task == "localize" or explained or protocols.find(protocol).reads != "map":
        return
    plugin = registry.plugin_of("decoder", ask.decoder.name)
    if "map" not in answers.gives(DecoderSpec(name=ask.decoder.name, plugin=plugin), 2):
        raise ConfigError(
            f"task {ask.task} gives no map, which protocol {protocol} measures; use protocol: image-1, or evaluate."
            "explain: grad-cam"
        )
