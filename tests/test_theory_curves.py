"""How simulations are read."""

import numpy as np
import pytest

from symbiosis.theory.curves import mean_and_error


def test_mean_and_error_by_hand():
    mean, error = mean_and_error(np.array([[1.0, 5.0], [3.0, 5.0]]))  # s = sqrt 2, over sqrt 2
    assert mean.tolist() == [2.0, 5.0] and error == pytest.approx([1.0, 0.0])


def test_one_repeat_has_no_error():
    with pytest.raises(ValueError, match=r"repeats: 1 .* at least 2"):
        mean_and_error([1.0])
