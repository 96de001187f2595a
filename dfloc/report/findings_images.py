"""What a study of images as a whole finds: is it fake, on generators that were seen and others, or who made it."""

from collections.abc import Iterator

from dfloc.report import captions, confusion, findings_models
from dfloc.report.finding import Finding
from dfloc.report.groups import Cells, Group, Study, less, over
from dfloc.report.histograms import flagged
from dfloc.report.models import ALL, ONE, WITHOUT, Part, known, models, parts, unknown
from dfloc.report.ranking import chosen

ORDER = ("best", "flagged", "confused", "prior", "lead", "diversity", "unseen", "hardest")
"""Keys of findings, what a reader asks first before what else there is."""
SIDES = {"in domain": known, "out of domain": unknown}


def findings(study: Study) -> Iterator[Finding]:
    """Yield what is found of detectors or classifiers: as of any models, and what only such have.

    Against what knows the share of each class alone; of detectors the reals that they flag, of classifiers the classes
    that they confuse most.
    """
    if study.task == "localize":
        return
    found = {one.key: one for one in findings_models.findings(study)}
    best = _best(study)
    if best is not None:
        more = [_prior(study, best), _confused(study, best) if study.task == "attribute" else _flagged(study, best)]
        found |= {one.key: one for one in more if one}
    if study.task == "attribute" and best is not None and not _cells(study, best, "out of domain"):
        found = {key: one._replace(text=_over_classes(study, one.text)) for key, one in found.items()}
    yield from sorted(found.values(), key=lambda one: ORDER.index(one.key) if one.key in ORDER else len(ORDER))


def _best(study: Study) -> Part | None:
    """Return what `findings_models` calls the best: what validation chooses of those that are trained alike."""
    blocks = [block for kind, block in parts(study, models(study)).items() if kind in (WITHOUT, ONE, ALL)]
    block = next((block for block in blocks if len(block) > 1), next(iter(blocks), None))
    return (chosen(study, block) or block[0]) if block else None


def _over_classes(study: Study, text: str) -> str:
    """Return what is said of classifiers that know every class in the words of classes."""
    for domain, words in (
        ("Hardest for it in domain", "The hardest class for it"),
        (" in domain;", " over all classes;"),
        (" in domain", f" in the mean of {len(study.tested)} classes"),
    ):
        text = text.replace(domain, words)
    return text


def _cells(study: Study, part: Part, words: str) -> Cells:
    return [(group, domain) for group, domains in part.cells(study, SIDES[words]) for domain in domains]


def _prior(study: Study, best: Part) -> Finding | None:
    """Return what the best has, where it is weakest, against what knows the share of each class alone."""
    solved: Group | None = next(iter(captions.baselines(study, "prior").values()), None)
    there = [(words, cells) for words in SIDES if (cells := _cells(study, best, words))]
    if solved is None or not there:
        return None
    words, cells = there[-1]
    scale = [(solved, domain) for _, domain in cells]
    change, own, theirs = less(cells, scale), over(cells), over(scale)
    if change is None or own is None or theirs is None:
        return None
    where = "over all classes" if study.task == "attribute" and words == "in domain" else words
    text = f"{where} it has {own.value:.2f}, where calling all images alike has {theirs.value:.2f}"
    return Finding("prior", text, {"prior": theirs, "ours": own}, [(change, "the difference is not decided")])


def _flagged(study: Study, best: Part) -> Finding | None:
    """Return the share of reals that the best flags, and of fakes that it misses."""
    wrong = [value for group in best.groups if (value := flagged(group, study.reals)) is not None]
    if not wrong or len(wrong) < len(best.groups):
        return None
    share = sum(wrong) / len(wrong)
    missed = {words: found for words in SIDES if (found := _missed(study, best, words)) is not None}
    said = " and ".join(f"{100 * value:.0f} % of the fakes {words}" for words, value in missed.items())
    spread = f" ({100 * min(wrong):.0f} to {100 * max(wrong):.0f} % by training)" if max(wrong) > min(wrong) else ""
    missing = f", and misses {said}" if said else ""
    text = f"It wrongly flags {100 * share:.0f} % of the reals{spread}{missing}"
    return Finding(
        "flagged", text, {"reals": share, **{words.replace(" ", "_"): each for words, each in missed.items()}}
    )


def _missed(study: Study, best: Part, words: str) -> float | None:
    cells = _cells(study, best, words)
    found = over(cells, "image_tpr") if cells else None
    return 1 - found.value if found else None


def _confused(study: Study, best: Part) -> Finding | None:
    """Return which class the best most often calls another."""
    words = confusion.confused(best.groups[0])
    return Finding("confused", f"Most often it confuses two classes: {words}") if words else None
