"""What the tests of theory share: draws of a known seed, and whether a simulation agrees with a curve."""

import numpy as np
import pytest
from scipy import stats

from symbiosis.theory.checks import mean_and_error

FOUR = np.array([0.5, 0.3, 0.15, 0.05])  # a small vocabulary


def rng(seed=0):
    return np.random.default_rng(seed)


def agrees(draws, expected):
    """Within four standard errors in every generation (exactly where nothing is random)."""
    mean, error = mean_and_error(draws)
    return bool(np.all(abs(mean - expected) <= 4 * error + 1e-9))


def excludes(draws, wrong):
    """The last generation is more than six standard errors off: the wrong formula would have been seen."""
    mean, error = mean_and_error(draws)
    return bool(abs(mean[-1] - wrong) > 6 * error[-1])


def refuses(*cases):
    """Every call raises a ValueError of one sentence that says this; numbers out of range are in test_checks.py."""
    for call, says in cases:
        with pytest.raises(ValueError, match=says) as refusal:
            call()
        assert len(str(refusal.value)) <= 300 and "\n" not in str(refusal.value)


def last(curves):
    return {name: curve[-1] for name, curve in curves.items()}


def counts_chain(tokens):
    """(N + 1, N + 1) Wright-Fisher transitions of the count of one of two tokens."""
    k = np.arange(tokens + 1)
    return stats.binom.pmf(k, tokens, k[:, None] / tokens)
