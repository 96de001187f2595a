"""What the documents conclude, each as a formula that published numbers and ours can both be put into."""

from collections.abc import Mapping

from dfloc.report.formulas import dolos, s003, sam2, segmenters, thesis, two_step
from dfloc.report.formulas.outcome import Formula, Outcome

FORMULAS: Mapping[str, Formula] = {
    **thesis.FORMULAS,
    **two_step.FORMULAS,
    **sam2.FORMULAS,
    **segmenters.FORMULAS,
    **s003.FORMULAS,
    **dolos.FORMULAS,
}

__all__ = ["FORMULAS", "Formula", "Outcome"]
