"""What tells apart trials of one cell that were planned with different settings, and what newer starts replaced."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dfloc.axis import Value, frozen
from dfloc.frozen import fingerprint
from dfloc.planned import PlannedTrial, cell, is_of_today
from dfloc.record import SweepRecord

UNNAMED = frozenset({"train", "valid", "init", "seed", "lineage"})
DIGEST = re.compile("[0-9a-f]{64}")
SEMANTICS = "semantics"
NOUNS = {  # of fields whose values are digests
    "train": "training list",
    "valid": "validation list",
    "init": "parent",
    "recipe": "recipe of maps",
    "plugin": "plug-in",
    "weights": "weights",
}
WORDS = {
    "train": "other training images",
    "valid": "other validation images",
    "init": "another parent",
    SEMANTICS: "code whose numbers were others",
    "recipe": "maps of another code or recipe",
}


def variants(
    trials: Sequence[PlannedTrial],
    replaced: Sequence[PlannedTrial] = (),
    searched: Sequence[str] = (),
    known: Mapping[str, str] | None = None,
) -> list[dict[str, Value]]:
    """Return for each trial the settings that tell it from another of the same stage, case and axes; mostly none.

    One start may plan a cell twice, from two parents; a record of an older dfloc holds those of several starts. Their
    axes are the same, so the fields of their specs that differ become axes; where only data or parent differ, those do.
    Where newer trials replaced those of some cells of a stage alone, the others of that stage stand apart likewise:
    no mean is over both.

    Args:
        trials: those that speak.
        replaced: in whose place newer starts planned others.
        searched: stages whose trials a search draws.
        known: words of weights by their digest.
    """
    told: dict[str, set[str]] = {}
    fields: dict[str, dict[str, Value]] = {}
    for there in _cells(trials, searched).values():
        if len({trial.fingerprint for trial in there}) > 1:
            fields |= {trial.fingerprint: _settings(trial) for trial in there}
            names = _differing([fields[trial.fingerprint] for trial in there])
            told.setdefault(there[0].stage, set()).update(names)
    for stage, names in _parted(trials, replaced, searched).items():
        told.setdefault(stage, set()).update(names)
        fields |= {trial.fingerprint: _settings(trial, names) for trial in trials if trial.stage == stage}
    result: list[dict[str, Value]] = []
    for trial in trials:
        apart = sorted(told.get(trial.stage, ()))
        own = fields.get(trial.fingerprint) or (_settings(trial) if apart else {})
        result.append({name: own[name] for name in apart if name in own})
    return _called(result, known or {})


def _called(found: Sequence[Mapping[str, Value]], known: Mapping[str, str]) -> list[dict[str, Value]]:
    """Return settings with words in place of digests, which say nothing: loss plug-in 1, loss plug-in 2."""
    words = {
        name: _numbered(noun, dict.fromkeys(str(each[name]) for each in found if name in each), known)
        for name in dict.fromkeys(name for each in found for name in each)
        if (noun := _noun(name))
    }
    return [
        {name: words[name][str(value)] if name in words else value for name, value in each.items()} for each in found
    ]


def _noun(name: str) -> str:
    """Return what a field is whose values are digests; empty for others."""
    *of, last = name.split(".")
    noun = NOUNS.get(last, "")
    return " ".join(filter(None, [*of[:1], noun])) if noun else ""


def replaced(record: SweepRecord) -> Iterator[str]:
    """Yield in one line how many trials newer starts have replaced, and for what; nothing where none was."""
    searched = [one.stage for one in record.searches]
    speaking = _cells(record.trials, searched)
    causes: dict[str, int] = {}
    for old in record.replaced:
        new = speaking[cell(old, searched)][0]
        both = [_settings(old), _settings(new)]
        why = " and ".join(_words(record, name, both) for name in sorted(_changed(old, new)))
        causes[why] = causes.get(why, 0) + 1
    if len(causes) == 1:
        yield f"{_trials(len(record.replaced))} replaced: {next(iter(causes))}"
    elif causes:
        each = "; ".join(f"{count} for {why}" for why, count in causes.items())
        yield f"{_trials(len(record.replaced))} replaced: {each}"


def _trials(count: int) -> str:
    return f"{count} trials of an earlier start are" if count > 1 else "1 trial of an earlier start is"


def _words(record: SweepRecord, name: str, both: Sequence[Mapping[str, Any]]) -> str:
    """Return what differs between the old trial and the new one in words."""
    if name in WORDS:
        return WORDS[name]
    if name.endswith("plugin"):
        return "another plug-in"
    old, new = (_word(record, str(each.get(name, "none"))) for each in both)
    if name == "classes" or name.endswith("weights"):
        return f"other {name.rpartition('.')[2]} ({old}, now {new})"
    return f"another {name} ({old}, now {new})"


def _word(record: SweepRecord, value: str) -> str:
    """Return a value as a person knows it: of weights the word that asked for them."""
    for digest, word in record.weights.items():
        value = value.replace(digest, f"{word}:{digest[:8]}" if len(digest) == 64 else word)
    value = DIGEST.sub(lambda found: found[0][:8], value)
    return value if len(value) <= 60 else f"{value[:57]}..."


def _cells(trials: Sequence[PlannedTrial], searched: Sequence[str]) -> dict[str, list[PlannedTrial]]:
    found: dict[str, list[PlannedTrial]] = {}
    for trial in trials:
        found.setdefault(cell(trial, searched), []).append(trial)
    return found


def _parted(
    trials: Sequence[PlannedTrial], replaced: Sequence[PlannedTrial], searched: Sequence[str]
) -> dict[str, set[str]]:
    """Return by stage the settings for which some trials were replaced, and which others that speak still have."""
    speaking, changed = _cells(trials, searched), dict[str, set[str]]()
    for old in (one for one in replaced if cell(one, searched) in speaking):
        changed.setdefault(old.stage, set()).update(_changed(old, speaking[cell(old, searched)][0]) - UNNAMED)
    found: dict[str, set[str]] = {}
    for stage, names in changed.items():
        own = [_settings(trial, names) for trial in trials if trial.stage == stage and names]
        apart = {name for name in names if len({str(each.get(name)) for each in own}) > 1}
        found |= {stage: apart} if apart else {}
    return found


def _changed(old: PlannedTrial, new: PlannedTrial) -> set[str]:
    """Return the settings in which a trial differs from the one that it replaced; at least the semantics do."""
    names = _differing([_settings(old), _settings(new)])
    if names - UNNAMED or (names and _is_of_today(old) == _is_of_today(new)):
        return names
    return {SEMANTICS}


def _is_of_today(trial: PlannedTrial) -> bool:
    return is_of_today(trial.spec, trial.fingerprint)


def _differing(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    names = {name for each in settings for name in each}
    differ = {name for name in names if len({str(each.get(name)) for each in settings}) > 1}
    named = {name for name in differ if name.split(".")[0] not in UNNAMED}
    return named or differ


def _settings(trial: PlannedTrial, names: Collection[str] = ()) -> dict[str, Value]:
    """Return what a trial could be told by; whether its numbers are those of today's code only if that is asked."""
    spec = trial.spec
    found = _flat(spec.model_dump(mode="json", exclude=set(UNNAMED) | {"maps"}))
    found["maps"] = " + ".join(recipe.map for recipe in spec.maps)
    found["weights"] = " + ".join(dict.fromkeys(recipe.weights for recipe in spec.maps))
    found["recipe"] = fingerprint([recipe.model_dump(exclude={"map", "weights", "plugin"}) for recipe in spec.maps])[:8]
    found["plugin"] = " + ".join(recipe.plugin[:8] for recipe in spec.maps if recipe.plugin) or "none"
    if SEMANTICS in names:
        found[SEMANTICS] = "of today" if _is_of_today(trial) else "of before"
    lists = {"train": spec.train.digest[:8], "valid": spec.valid.digest[:8]}
    return found | lists | {"init": trial.parent[:8] if trial.parent else "none"}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            found |= _flat(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = frozen(item)
    return found


def _numbered(noun: str, values: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return a word for each value that says nothing to a reader, such as a digest: its own, else a noun; numbered.

    Args:
        noun: loss plug-in.
        values: each once, in order; `none` is none of it.
        known: words of some values.
    """
    called = {
        value: " + ".join(dict.fromkeys(known.get(part, noun) for part in value.split(" + ")))
        for value in values
        if value != "none"
    }
    words = list(called.values())
    many = {
        value: f"{word} {words[: place + 1].count(word)}" if words.count(word) > 1 else word
        for place, (value, word) in enumerate(called.items())
    }
    return {"none": f"no {noun}", **many}
