"""Where the numbers of a figure or table come from: protocol, data, seeds, photographs."""

from collections.abc import Iterable, Sequence

from dfloc import registry
from dfloc.data import dolos
from dfloc.frozen import fingerprint
from dfloc.metrics import protocols
from dfloc.metrics.degenerate import ALL_FAKE
from dfloc.report.groups import Facet, Group, Study
from dfloc.report.published import PublishedTable
from dfloc.report.results import Result
from dfloc.report.roles import SOLVED
from dfloc.report.score import Score
from dfloc.report.words import joined

BASELINES = {
    ALL_FAKE: "all fake",
    "mean-mask": "mean training mask",
    "threshold": "local-variance threshold",
    "prior": "share of each class",
}
EXPLAINED = {
    ALL_FAKE: "All fake: every pixel; computed from the truth where no trial of it is planned.",
    "mean-mask": "Mean training mask: one mask for every image.",
    "threshold": "Local-variance threshold: one threshold, fitted on training images.",
    "prior": "Share of each class: as in the training images, the same for every image.",
}


def provenance(study: Study, groups: Iterable[Group]) -> list[str]:
    """Return where numbers come from, in sentences: protocol, test data, seeds, and what the intervals are of."""
    trained = [group.scored for group in groups if group.scored]
    results = [result for each in trained for result in each]
    scores = [score for result in results for score in result.scores.values() if not score.of_reals]
    if not scores:
        return ["No trial of it is finished."]
    seeds = sorted({result.trial.axes.get("seed", result.trial.spec.seed) for result in results})
    draws = sorted({result.trial.axes.get("draw", 0) for result in results})
    trainings = {len(each) for each in trained}
    over = "source images and trainings" if trainings - {1} else "source images: test sampling only"
    over += "; of one training, source images alone: test sampling only" if trainings > {1} else ""
    return [
        f"Protocol {study.record.protocol}.",
        f"{_data(study, scores)}.",
        f"Training seeds {_list(seeds)}, sampling seeds {_list(draws)}.",
        f"Intervals: 95 %, over {over}.",
        *filter(None, [random_weights(results).strip()]),
    ]


def trials(groups: Iterable[Group]) -> frozenset[str]:
    """Return the fingerprints of some groups' trials."""
    return frozenset(result.trial.fingerprint for group in groups for result in group.results)


def random_weights(results: Iterable[Result]) -> str:
    """Return what marks random weights, after a space: of backbones, and of segmenters' encoders, which are trained."""
    used = list(results)
    found = {name for result in used for name in result.random_weights}
    scratch = any(result.from_scratch and result.trial.spec.decoder.encoder for result in used)
    words = [f" Weights: {_list(sorted(found))}, so these numbers mean nothing."] if found else []
    return "".join([*words, *([" Encoders: random at the start, not pretrained."] if scratch else [])])


def digest(scores: Iterable[Score]) -> str:
    """Return a short name of the test lists of some scores."""
    return fingerprint(sorted({score.spec.test.digest for score in scores}))[:10]


def compared(study: Study, sources: Sequence[PublishedTable], scores: Iterable[Score]) -> str:
    """Return which test lists and masks ours are scored on, and which the published numbers, as far as it is known."""
    lists = {(score.spec.domain, score.spec.test.digest): score.num_images for score in scores}
    alike: dict[str, list[tuple[str, str]]] = {}
    for (domain, digest_), images in lists.items():
        kinds = study.results.mask_kinds(digest_)
        masks = f"masks {_list(kinds)}" if kinds else "kind of masks not recorded"
        masks = masks if study.protocol.reads == "map" else ""
        alike.setdefault(masks, []).append((f"{domain} {digest_[:10]}", f"{images:,}"))
    ours = (
        "; ".join(", ".join(filter(None, [_counted(each), masks])) for masks, each in alike.items()) or "none is scored"
    )
    own, by = study.record.protocol, dict[str, list[str]]()
    for source in sources:
        by.setdefault(_published(source, own, of_maps=study.protocol.reads == "map"), []).append(source.id)
    told = "; ".join(f"{words} ({_list(ids)})" if len(by) > 1 else words for words, ids in by.items())
    rule = protocols.find(own).truth
    return f"Test lists of ours: {ours}; by {own}: {rule}. Published, with no digests of lists: {told}."


def _published(source: PublishedTable, own: str, *, of_maps: bool) -> str:
    """Return on which test sets, and by which rule for masks, a published table was scored, as far as it is known."""
    counts = [(domain, dolos.COUNTS.get(domain, {}).get("test")) for domain in source.tested]
    tested = _counted([(domain, count.printed if count else "") for domain, count in counts])
    masks = (
        "masks of Dolos"
        if of_maps and any(cell.requires.get("data") == "dolos" for cell in source.cells.values())
        else ""
    )
    protocol = "a protocol that is not known" if source.protocol == "unknown" else source.protocol
    if source.protocol != own and source.protocol in registry.names("protocol"):
        protocol += f": {protocols.find(source.protocol).truth}"
    lists = ", ".join(filter(None, [tested or "test sets not stated", masks]))
    return "; ".join(filter(None, [lists, f"by {protocol}", source.aggregate]))


def _counted(lists: Sequence[tuple[str, str]]) -> str:
    """Return names with their numbers of images; one number once, an empty one not at all."""
    names, counts = zip(*lists, strict=True) if lists else ((), ())
    if len(set(counts)) == 1 and counts[0]:
        return f"{_list(names)}, {counts[0]} images{' each' * (len(names) > 1)}"
    return _list([f"{name} ({count} images)" if count else name for name, count in lists])


def baselines(study: Study, name: str, facet: Facet = ()) -> dict[str, Group]:
    """Return the groups of a baseline by what each is called: one, but for what the facet does not settle.

    All fake is computed from the rows of any trial where the study does not plan it.
    """
    if name == ALL_FAKE and study.all_fake:
        return {BASELINES[name]: study.all_fake}
    wanted = dict(facet)
    found: dict[str, Group] = {}
    for group in (group for group in study.groups if SOLVED in group.role and group.role.decoder == name):
        if all(wanted.get(axis, value) == value for axis, value in group.facet):
            words = ", ".join(filter(None, [BASELINES[name], joined(group.facet)]))
            twice = ", ".join(filter(None, [words, group.stage, group.case]))
            found[twice if words in found else words] = group
    return found


def solved(study: Study) -> dict[str, Group]:
    """Return the groups of all baselines by what each is called."""
    return {words: group for name in BASELINES for words, group in baselines(study, name).items()}


def baseline_note(study: Study, *, per_cent: bool = False) -> tuple[str, ...]:
    """Return a footnote with the baselines' scores, for tables that have no row for them."""

    def write(value: float) -> str:
        return f"{100 * value:.1f}" if per_cent else f"{value:.3f}"

    found = []
    for words, group in solved(study).items():
        if mean := group.score(study.tested):
            each = ", ".join(f"{d} {write(e.value)}" for d in study.tested if (e := group.score([d])))
            found.append(f"{words} {write(mean.value)} ({each})")
    return (
        (f"For scale, mean test {study.first.word} of what looks at no image or learns nothing: {'; '.join(found)}.",)
        if found
        else ()
    )


def _data(study: Study, scores: list[Score]) -> str:
    images = sorted({score.num_images for score in scores})
    photographs = sorted({score.num_photographs for score in scores})
    each = str(images[0]) if len(images) == 1 else f"{images[0]} to {images[-1]}"
    of = str(photographs[0]) if len(photographs) == 1 else f"{photographs[0]} to {photographs[-1]}"
    plural = "source image" if of == "1" else "source images"
    shown = f"{each} image{'s' * (each != '1')} a domain, of {of} {plural}"
    return f"Test: {shown} (data {study.record.data}, lists {digest(scores)})"


def _list(values: Sequence[object]) -> str:
    return ", ".join(str(value) for value in values)
