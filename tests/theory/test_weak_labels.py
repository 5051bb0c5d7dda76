"""Weak labels where a filter rejects: printed accuracies, their recursions, then the Monte Carlo."""

import numpy as np
import pytest
from theory_tools import agrees, excludes, refuses, rng

from symbiosis.theory.weak_labels import (
    filter_only_accuracy,
    simulate_weak_labels,
    vote_accuracy,
    weak_label_accuracy,
)

START = np.array([0, 0, 0.2, 0.6])
CHANCES = {"labeller": 0.1, "false_accept": 0.2, "false_reject": 0.05}


def test_weak_label_accuracy_has_the_printed_values():
    curve = weak_label_accuracy(START, 20, **CHANCES)
    assert curve[0].tolist() == START.tolist()
    assert curve[[1, 5, 20]].mean(axis=1) == pytest.approx([0.255, 0.414320, 0.609548], abs=5e-7)
    never_rejects_right = weak_label_accuracy(START, 20, **CHANCES | {"false_reject": 0.0})
    assert never_rejects_right[-1].mean() == pytest.approx(0.849045, abs=5e-7)
    assert (1 - never_rejects_right[-1]) == pytest.approx((1 - START) * (1 - 0.8 * 0.1) ** 20, abs=1e-12)
    assert weak_label_accuracy(START, 20, labeller=0.0, false_accept=0.2, false_reject=0.0)[-1] == pytest.approx(START)


def at_random(share):
    """A filter that knows nothing: it hands a random share of the answers to the labeller."""
    return {"false_accept": 1 - share, "false_reject": share}


def test_filter_alone_and_random_labels_have_the_printed_values():
    filtered = filter_only_accuracy(START, 20, false_accept=0.2, false_reject=0.05)
    assert filtered[-1].mean() == pytest.approx(0.5, abs=1e-9) and filtered[-1, :2].tolist() == [0, 0]
    labelled = weak_label_accuracy(START, 20, labeller=0.1, **at_random(0.3))
    assert labelled == pytest.approx(0.1 + (START - 0.1) * 0.7 ** np.arange(21)[:, None], abs=1e-12)
    assert labelled[-1].mean() == pytest.approx(0.100080, abs=5e-7)


def test_accuracies_follow_their_recursions():
    b, g, d, c = 0.3, 0.4, 0.15, np.array([0.05, 0.5, 0.9])
    weak = weak_label_accuracy(c, 4, labeller=b, false_accept=g, false_reject=d)
    filtered = filter_only_accuracy(c, 4, false_accept=g, false_reject=d)
    labelled = weak_label_accuracy(c, 4, labeller=b, **at_random(d))
    for t in range(4):
        c = weak[t]
        assert weak[t + 1] == pytest.approx(c * (1 - d) + b * (c * d + (1 - c) * (1 - g)), abs=1e-9)
        c = filtered[t]
        assert filtered[t + 1] == pytest.approx(c * (1 - d) / (c * (1 - d) + (1 - c) * g), abs=1e-9)
        assert labelled[t + 1] == pytest.approx(labelled[t] * (1 - d) + b * d, abs=1e-9)


def test_weak_labels_agree_with_their_simulations():
    weak = simulate_weak_labels(START, 20, **CHANCES, repeats=1000, rng=rng(13)).mean(axis=2)
    assert agrees(weak, weak_label_accuracy(START, 20, **CHANCES).mean(axis=1))
    assert excludes(weak, 0.5) and excludes(weak, 0.1)  # the filter's end, the labeller's quality
    chances = {"labeller": 0.1, **at_random(0.3)}
    labelled = simulate_weak_labels(START, 8, **chances, repeats=1000, rng=rng(13)).mean(axis=2)
    assert agrees(labelled, weak_label_accuracy(START, 8, **chances).mean(axis=1))
    assert excludes(labelled, START.mean())
    rates = {"false_accept": 0.2, "false_reject": 0.05}
    many = {"labeller": None, "answers": 100_000, "repeats": 200}
    filtered = simulate_weak_labels(START, 3, **rates, **many, rng=rng(13)).mean(axis=2)
    assert agrees(filtered, filter_only_accuracy(START, 3, **rates).mean(axis=1))
    assert excludes(filtered, filter_only_accuracy(START, 3, false_accept=0.2, false_reject=0.0)[-1].mean())


def test_a_prompt_with_nothing_kept_learns_nothing():
    never = {"false_accept": 0.0, "false_reject": 0.5}
    assert filter_only_accuracy([0.0, 0.1], 2, **never).tolist() == [[0.0, 0.1], [0.0, 1.0], [0.0, 1.0]]
    draws = simulate_weak_labels([0.0, 0.1], 2, labeller=None, **never, answers=1000, repeats=5, rng=rng())
    assert np.all(draws[:, 1:] == [0.0, 1.0])


def test_impossible_input_is_refused():
    refuses(
        (lambda: weak_label_accuracy([[0.5, 0.2]], 3, **CHANCES), r"start: shape \(1, 2\)"),
        (lambda: weak_label_accuracy([], 3, **CHANCES), "prompts: 0 .* at least 1"),
        (lambda: filter_only_accuracy([0.5], 3, false_accept=0.1, false_reject=1.0), r"false_reject: 1.0 .*\[0, 1\)"),
    )


def test_a_vote_has_the_values_by_hand_and_amplifies_what_is_right_more_often_than_not():
    b = np.array([0.0, 0.4, 0.5, 0.6, 1.0])
    assert vote_accuracy(b, 1) == pytest.approx(b)  # who memorises ends where the labeller is
    assert vote_accuracy(0.6, 3) == pytest.approx(3 * 0.6**2 * 0.4 + 0.6**3)
    assert vote_accuracy(0.6, 2) == pytest.approx(0.6)  # a tie is a coin
    assert vote_accuracy(b, 10_001) == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-9)


def test_a_vote_agrees_with_drawn_labels():
    right = rng(14).random((40_000, 7)) < 0.7
    found = (right.sum(axis=1) > 3).mean()
    error = np.sqrt(found * (1 - found) / len(right))
    assert abs(found - vote_accuracy(0.7, 7)) < 4 * error
    assert abs(found - vote_accuracy(0.7, 5)) > 6 * error  # and fewer votes would have been seen
