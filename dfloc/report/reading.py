"""How to read a report: what its words, intervals and marks mean, with the numbers of this sweep."""

from collections.abc import Mapping, Sequence

from dfloc.metrics.metric import Metric
from dfloc.report import false_alarms
from dfloc.report.cells import ONE_CLASS
from dfloc.report.groups import Study

Term = tuple[str, str]
WRITTEN: Mapping[str, Sequence[str]] = {
    "n": ["n(?= = |,| images)"],
    "Held-out, in-domain, out-of-domain": ["held-out", "new generator", "known ones", "known domains"],
    "In-domain (ID), out-of-domain (OOD)": ["out[ -]of[ -]domain", "in[ -]domain"],
    "Intervals": ["not decided", "not told apart", "decided", "95 %"],
    "Validation and test": ["[Vv]alidation", "oracle"],
    "Marks": ["COLLAPSED", "not above all fake", "cross", "all fake"],
    "Protocol": ["IoU", "[Pp]rotocol"],
    "Reals flagged": ["Reals flagged"],
    "Diamonds": ["published"],
    "Random weights": ["[Rr]andom weights"],
    "Built-in data": ["[Bb]uilt-in data"],
}
"""How sentences and captions write what a term explains, as patterns."""


def lines(study: Study, *, published: bool) -> list[Term]:
    """Return terms and explanations.

    Args:
        study: what is shown.
        published: whether published values stand beside.
    """
    maps = study.protocol.reads == "map"
    found = [*_words(study), _intervals(study), VALIDATION, _marks(study.first) if maps else _marks_of_images()]
    if false_alarms.scored(study):
        found.append(_reals())
    if published:
        found.append(_diamonds())
    if study.built_in:
        found.append(_built_in())
    if study.random_weights:
        found.append(_random())
    return found


def _words(study: Study) -> list[Term]:
    return [
        *(_curves() if any(result.trial.parent for result in study.results.all) else _crossed()),
        ("Protocol", f"All numbers are {study.record.protocol}: {_rule(study)} {NEVER}"),
    ]


def _rule(study: Study) -> str:
    """Return how the protocol scores."""
    if study.protocol.reads == "map":
        return (
            f"scores per image, then the mean, as fractions. {study.first.label} is at threshold "
            f"{study.protocol.threshold:g}, AP needs no threshold."
        )
    if study.task == "attribute":
        return (
            "an image is called the class of the largest probability. Recall is the share of the images of a class "
            "that are called so, and a mean weighs each test list the same, reals among them: with one list a class it "
            "is the balanced accuracy, and chance is one by their number."
        )
    return (
        f"{study.protocol.truth}. So balanced accuracy is the mean of the share of fakes that are called fake (TPR) "
        "and that of reals that are not (TNR); calling all images alike has 0.5, whatever their numbers. AP and AUC "
        "need no threshold: equal scores have 0.5."
    )


def _curves() -> list[Term]:
    return [
        (
            "n",
            "Images of the held-out domain that the base is fine-tuned on; n = 0 is the base itself. Optimiser "
            "steps stand beside it as planned (a schedule may end before); captions say where they grow with n.",
        ),
        (
            "Held-out, in-domain, out-of-domain",
            "The held-out domain is the one that the base never saw; seen, or base domains are those that the base was "
            "trained on. A test domain is in-domain once the model or an ancestor was trained on its family, else "
            "out-of-domain: the held-out domain is out-of-domain at n = 0 alone.",
        ),
    ]


def _crossed() -> list[Term]:
    return [
        (
            "Training data",
            "A column is named by what a model is trained on: a domain; without-<domain>: all of the study's but one; "
            "train_all_<n>: all of them. The trainings of a model differ in nothing else but their length.",
        ),
        (
            "In-domain (ID), out-of-domain (OOD)",
            "A test domain is in-domain where the model or an ancestor was trained on its family (repaint-p2 and "
            "repaint-p2-9k are one), else out-of-domain; neither where nobody knows what an imported model was trained "
            "on. ID and OOD are means over such cells of train x test; a mean without cells is not there.",
        ),
    ]


def _intervals(study: Study) -> Term:
    rests = sorted({score.num_photographs for score in study.results.scores() if not score.of_reals})
    photographs = f"{rests[0]} to {rests[-1]}" if len(rests) > 1 else str(rests[0]) if rests else "none yet"
    trainings = {len(group.results) for group in study.groups}
    both = " and over trainings" if trainings - {1} else ""
    stars = (
        " Sentences at the top are decided by Holm's procedure over their own differences, tables (a star) by the same "
        "over all of the page: what a sentence tells as decided may have no star."
        if trainings - {1}
        else ""
    )
    one = (
        " Of one training they speak of test sampling only, and give no star: another may differ by more."
        if 1 in trainings
        else ""
    )
    return (
        "Intervals",
        f"95 %, over the source images of a test list ({photographs}){both}, by the variance of the two-way layout and "
        f"Student's t; crops and fakes of one source image go together.{one} Under three of them there are "
        f"words.{stars}",
    )


VALIDATION = (
    "Validation and test",
    "Epochs, and the ranking of rows, are chosen by validation; what is printed is that choice's test score. A "
    "best test score is called an oracle. Validation spends labels too, which stand beside n.",
)
NEVER = "Numbers of another protocol are never compared with these."


def _marks_of_images() -> Term:
    return (
        "Marks",
        f"A hole (not run, unfinished, not scored, failed) is written, never left out. COLLAPSED: {ONE_CLASS}, over "
        "all test images of a trial; it is a cross in figures. The share of each class looks at no image: it calls all "
        "of them alike by its nature, and is not told so.",
    )


def _marks(first: Metric) -> Term:
    return (
        "Marks",
        "A hole (not run, unfinished, not scored, failed) is written, never left out. COLLAPSED: over 90 % of a "
        "trial's predictions are empty (no pixel called fake), all fake (every pixel) or constant (one probability "
        "everywhere; not told of rows of earlier versions); without the word, of those on one test domain. Both "
        "are a cross in figures. Not above all fake: the mean "
        f"{first.label} is no {'more' if first.higher_is_better else 'less'} than that of calling every pixel of "
        "the same images fake; such a number is never the best one. All fake needs no trial. All fake and mean "
        "training mask look at no image.",
    )


def _reals() -> Term:
    return (
        false_alarms.HEAD,
        "What is called fake where nothing is: a real image is flagged where over 1 % of its pixels are called fake. A "
        "model that calls nothing fake flags none, so it is read beside the scores on fakes. Such shares are compared "
        "only within one protocol and one list of reals, whose digest stands at the end of the page.",
    )


def _diamonds() -> Term:
    return (
        "Diamonds",
        "Published values. A hollow one is doubtful by its own source; the reason is in the hover and in the footnotes "
        "of the published tables. Only sound ones are subtracted, where our trial meets what the table requires.",
    )


def _built_in() -> Term:
    return (
        "Built-in data",
        "They say nothing about Dolos. So published values, and the hollow markers of doubtful ones, are not shown "
        "beside ours, there is no difference column, and no claim of the documents is put to them.",
    )


def _random() -> Term:
    return (
        "Random weights",
        "Numbers of weights that were drawn at random say nothing about any model. Published values may stand beside "
        "them as context; nothing is subtracted.",
    )
