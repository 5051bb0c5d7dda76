"""The settings of the linear theory: printed values, their own simulation, and tasks that share nothing by hand."""

import numpy as np
import pytest

from symbiosis.theory.linear_settings import ring_designs, round_curves, round_draws, separate_designs, theory_change


def test_curves_of_the_ring_are_those_of_the_theory_card():
    designs, truth = ring_designs(), np.ones(2)
    curves = round_curves(designs, 0.5, 0.5, truth, 60)
    ends = {"loss_own": (0.1, 0.0590), "loss_others": (0.2867, 0.0822), "disagreement": (0.96, 0.1118)}
    for name, (first, limit) in ends.items():
        np.testing.assert_allclose(curves[name][[0, -1]], (first, limit), atol=6e-5)  # four printed digits


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_draws_scatter_around_the_curves(alpha):
    designs, truth, last = separate_designs(3), np.array([1.0, -2.0, 0.5, 1.0]), 3
    curves = round_curves(designs, alpha, 0.4, truth, last)
    draws = round_draws(designs, alpha, 0.4, truth, last, n_runs=600, rng=np.random.default_rng(0))
    for name, curve in curves.items():
        error = draws[name].std(axis=0, ddof=1) / np.sqrt(600)
        assert (np.abs(draws[name].mean(axis=0) - curve) <= 4 * error + 1e-12).all(), name


def test_separate_tasks_by_hand():
    # One's own task at round 0 is the mean of 20 labels; nobody else has data there, so the estimate is 0.
    curves = round_curves(separate_designs(2), 1.0, 0.5, np.array([1.0, 2.0, 3.0]), 2)
    np.testing.assert_allclose(curves["loss_own"][0], 1 / 20)
    np.testing.assert_allclose(curves["loss_others"][0], (2**2 + 3**2) / 2)
    # At alpha = 1 everyone takes the mean of the 10 new labels the owner writes there: 1 / 10 more in every round.
    np.testing.assert_allclose(curves["loss_own"][1:], [1 / 20 + 1 / 10, 1 / 20 + 2 / 10])
    np.testing.assert_allclose(curves["loss_others"][1:], curves["loss_own"][1:])
    assert theory_change(2, 0.0, 5) == {"loss_own": 0, "loss_others": 0}
