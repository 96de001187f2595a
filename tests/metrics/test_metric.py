"""A metric says which of its values is better, and where its intervals end; a protocol holds its metrics in order."""

from dataclasses import replace

import numpy as np
import pytest

from dfloc.errors import ConfigError
from dfloc.metrics import protocols
from dfloc.metrics.intervals import Images, Training, difference, mean
from dfloc.metrics.metric import FALSE_ALARM, IOU, MCC, Metric

ERROR = Metric("error", "Error", bounds=(0.0, 2.0), higher_is_better=False)


def test_the_best_and_the_gain_follow_the_direction():
    assert (IOU.best([0.2, 0.7]), ERROR.best([0.2, 0.7])) == (0.7, 0.2)
    assert (IOU.gain(0.7, 0.2), ERROR.gain(0.7, 0.2)) == (pytest.approx(0.5), pytest.approx(-0.5))


def test_an_interval_ends_where_its_metric_does_whatever_the_values_are():
    trainings = [
        Training(0, seed, [Images(np.array(v), np.arange(3))]) for seed, v in enumerate(([0.0, 0, 1], [1, 0, 1]))
    ]
    ends = [mean(trainings, metric.bounds).interval()[1:3] for metric in (IOU, MCC, ERROR)]
    assert ends == [(0, 1), (-1, 1), (0, 2)]
    pair = trainings[0], trainings[1]._replace(seed=0)
    low, high = difference([pair], ERROR.bounds).interval()[1:3]
    assert low >= -2
    assert high <= 2


def test_a_protocol_holds_its_metrics_in_the_order_of_tables():
    rule = protocols.find("dfloc-1")
    assert rule.first == IOU
    assert list(rule.per_image) == ["iou", "f1", "ap", "auc", "mcc", "pbca"]
    assert [metric.key for metric in rule.metrics if metric.of_set] == ["pooled_iou", "f1_valid", "false_alarm_area"]
    assert [metric.key for metric in rule.metrics if not metric.higher_is_better] == ["false_alarm_area"]


@pytest.mark.parametrize("metrics", [(), (IOU, IOU), (FALSE_ALARM, IOU)])
def test_a_protocol_without_a_first_metric_or_with_two_of_a_name_is_refused(metrics):
    with pytest.raises(ConfigError, match="expected metrics of different keys, the first one of images"):
        replace(protocols.find("dfloc-1"), metrics=metrics)
