"""A lie among four: the course by hand, where it ends, and the chain of counts that should follow it."""

import numpy as np
import pytest
from row_by_row import row_by_row

from symbiosis.theory.consensus import simulate_spread, spread

EQUAL = [0.25] * 4


def test_one_round_by_hand():
    first, second = spread([0.5, 0.5], 1, alpha=0.2, beta=0.6, public=0.5)
    assert first == pytest.approx([0.6 / (0.6 + 0.2), 0])
    false, true = 0.2 * 0.5 * 0.6, 0.8 * 0.2 + 0.2 * 0.2  # what is heard of the liar; told and heard truth
    assert second == pytest.approx([(0.8 * 0.6 + false) / (0.8 * 0.6 + false + true), false / (false + true)])


@row_by_row("alpha", [0.1, 0.5, 0.9])
def test_what_is_repeated_in_the_end_does_not_depend_on_how_much_they_listen(alpha):
    voices = np.array([0.4, 0.3, 0.3])
    belief = spread(voices, 400, alpha=alpha, beta=0.3, public=0.8)[-1]
    true = 0.7 * 0.8  # of everybody: all read the same public rows
    false = true * belief / (1 - belief)
    assert voices @ false == pytest.approx(0.3 * 0.4)  # beta times the voice of the liar
    assert belief[0] > belief[1] == pytest.approx(belief[2])


def test_without_a_true_row_everybody_believes_it_and_before_reading_only_the_liar_speaks():
    belief = spread([0.01, 0.99], 3, public=0)
    assert belief[0, 0] == 1 and np.isnan(belief[0, 1]) and (belief[1:] == 1).all()


def test_the_chain_of_counts_follows_the_closed_form_and_a_vote_keeps_the_lie_with_the_liar():
    rng = np.random.default_rng(0)
    chains = [simulate_spread(EQUAL, 15, public=1.0, rng=rng) for _ in range(150)]
    ends = np.array([chain["belief"][-1] for chain in chains])
    error = ends.std(axis=0) / np.sqrt(150)
    assert (np.abs(ends.mean(axis=0) - spread(EQUAL, 15, public=1.0)[-1]) < 5 * error + 0.01).all()
    assert np.mean([chain["share"][-1] for chain in chains]) == pytest.approx(0.2, abs=0.02)
    voted = [simulate_spread(EQUAL, 15, public=1.0, vote=True, rng=rng) for _ in range(50)]
    assert all((chain["belief"][2:, 1:] == 0).all() and chain["belief"][-1, 0] > 0 for chain in voted)


def test_bad_input_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="divide it by its sum"):
        spread([0.5, 0.6], 1, public=1)
    with pytest.raises(ValueError, match=r"alpha: 2 is not in \[0, 1\]"):
        spread(EQUAL, 1, alpha=2, public=1)
