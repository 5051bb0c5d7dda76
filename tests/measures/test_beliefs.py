"""How a labeller believes: counts, entropy and calibration by hand."""

import numpy as np
import pytest
from row_by_row import row_by_row

from symbiosis.measures.beliefs import calibration_curve, calibration_error, label_counts, mean_entropy, one_sided

PROBS = np.array([[0.95, 0.05, 0.0], [0.05, 0.91, 0.04], [0.3, 0.55, 0.15], [0.52, 0.4, 0.08]])
LABELS = np.array([0, 0, 1, 2])


def test_counts_and_entropy_by_hand():
    assert label_counts(PROBS).tolist() == [2, 2, 0]
    assert mean_entropy(np.eye(3)) == 0 and mean_entropy(np.full((5, 4), 0.25)) == pytest.approx(np.log(4))
    assert mean_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])) == pytest.approx(np.log(2) / 2)


def test_the_calibration_error_by_hand():
    curve = calibration_curve(PROBS, LABELS)  # two texts above .9, one of them right; two between .5 and .6, one right
    assert [(n, round(sure, 3), right) for n, sure, right in curve] == [(2, 0.535, 0.5), (2, 0.93, 0.5)]
    assert calibration_error(PROBS, LABELS) == pytest.approx(0.5 * 0.035 + 0.5 * 0.43)
    assert calibration_error(np.eye(2), np.array([0, 1])) == 0 and calibration_error(np.eye(2), np.array([1, 0])) == 1


@row_by_row(
    ("counts", "labels", "found"),
    [
        ([0, 19, 1], [0] * 7 + [1] * 7 + [2] * 6, 1),  # 95 % of the texts, a third of the labels
        ([2, 18, 0], [0] * 7 + [1] * 7 + [2] * 6, None),  # 90 % are not more than 90 %
        ([0, 20, 0], [1] * 15 + [0] * 5, None),  # the task is nearly all of that class
    ],
)
def test_a_class_that_takes_nearly_all_of_a_balanced_task_is_found(counts, labels, found):
    assert one_sided(np.array(counts), np.array(labels)) == found
