"""How many of the photographs of a fine-tune its base was trained on already, with other generators."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from dfloc.data import dolos, sample_lists
from dfloc.ids import SampleId
from dfloc.report.groups import Facet, Group, Study
from dfloc.report.results import Result
from dfloc.report.words import named
from dfloc.storage import Workspace


def sentences(workspace: Workspace, study: Study, groups: Sequence[Group]) -> list[str]:
    """Return a sentence on the overlap for each facet of some fine-tuned models; none where none was scored.

    Each base is counted for itself: its photographs beside those of all trials that start from it. What a replay
    takes from the base's own list is not counted.

    Raises:
        WorkspaceError: a list of samples is damaged.
    """

    @cache
    def stems(digest: str) -> dict[str, str] | None:
        return sample_lists.stems(workspace, digest)

    found = []
    for facet in dict.fromkeys(group.facet for group in groups):
        bases: dict[str, list[Result]] = {}
        for group in (group for group in groups if group.facet == facet):
            for result in group.scored:
                if root := result.trial.spec.lineage.root:
                    bases.setdefault(root, []).append(result)
        counts: list[tuple[int, int, int, int] | None] = []
        for root, tuned in bases.items():
            base = study.results.by_fingerprint.get(root)
            old = stems(base.trial.spec.train.digest) if base else None
            new = [stems(result.trial.spec.train.digest) for result in tuned]
            known = [each for each in new if each is not None]
            complete = old is not None and len(known) == len(new)
            counts.append(_shared(old or {}, _own(tuned[0], known, study.record.families)) if complete else None)
        found += [_sentence(facet, counts)] if counts else []
    return found


def _own(result: Result, lists: Iterable[Mapping[str, str]], said: Mapping[str, str]) -> dict[str, str]:
    """Return the ids that are of no family of the base, with their photographs."""
    families = {dolos.family(domain, said) for domain in result.trial.spec.lineage.base}
    every = {name: stem for shown in lists for name, stem in shown.items()}
    domains = {name: SampleId.of(name).domain for name in every}
    return {name: stem for name, stem in every.items() if dolos.family(domains[name], said) not in families}


def _shared(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[int, int, int, int]:
    """Return photographs in both and in the new, and file names in both and in the new."""
    old_pairs, new_pairs = ({SampleId.of(name).pair for name in names} for names in (old, new))
    old_stems, new_stems = set(old.values()), set(new.values())
    return len(new_stems & old_stems), len(new_stems), len(new_pairs & old_pairs), len(new_pairs)


def _sentence(facet: Facet, counts: Sequence[tuple[int, int, int, int] | None]) -> str:
    head = "".join(f"{named(*axis)}: " for axis in facet)
    known = [each for each in counts if each is not None]
    if len(known) < len(counts):
        why = "lists of samples, or their data, are missing"
        return f"{head}How many of the source images the base was trained on is not known: {why}."
    stems, all_stems, pairs, all_pairs = (sum(column) for column in zip(*known, strict=True))
    each = f"; {len(known)} bases, each counted for itself" if len(known) > 1 else ""
    return (
        f"{head}{stems:,} of {all_stems:,} fine-tune source images were also trained on by the base, with other "
        f"generators ({pairs:,} of {all_pairs:,} by file name{each})."
    )
