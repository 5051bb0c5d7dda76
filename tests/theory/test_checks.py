"""Input that is refused in one sentence, and how simulations are read."""

import ast
from pathlib import Path

import numpy as np
import pytest

from symbiosis import theory
from symbiosis.theory.checks import as_distribution, check_counts, check_range, max_z, mean_and_error


def test_mean_and_error_by_hand():
    mean, error = mean_and_error(np.array([[1.0, 5.0], [3.0, 5.0]]))  # s = sqrt 2, over sqrt 2
    assert mean.tolist() == [2.0, 5.0] and error == pytest.approx([1.0, 0.0])


def test_one_repeat_has_no_error():
    with pytest.raises(ValueError, match=r"repeats: 1 .* at least 2"):
        mean_and_error([1.0])


def test_max_z_is_the_farthest_point_that_scatters_in_standard_errors():
    draws = {"a": np.array([[0.2, 1.0], [0.2, 3.0], [0.2, 2.0]]), "b": np.ones((3, 2))}  # mean 2, error 1 / sqrt 3
    assert max_z(draws, {"a": np.array([0.2, 3.0]), "c": np.zeros(2)}) == pytest.approx(np.sqrt(3))
    with pytest.raises(ValueError, match="nothing that scatters"):
        max_z(draws, {"b": np.zeros(2)})


@pytest.mark.parametrize("value", [1, -3, 2.5, 5.0, np.nan, np.inf, "5"])
def test_a_count_is_a_whole_number_and_no_float_that_happens_to_be_one(value):
    check_counts(2, rows=np.int64(2), features=7)
    with pytest.raises(ValueError, match=r"rows: .* is not a whole number of at least 2"):
        check_counts(2, features=7, rows=value)


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", [0, 1, 0.5], [-1e-9, 1.1, np.nan, np.inf]),
        ("(0, 1]", [1e-300, 1], [0, 1.1, np.nan]),
        ("[0, 1)", [0, 0.9], [1, -0.1]),
        ("(0, inf)", [1e-300, 1e300], [0, -1, np.inf, np.nan]),
        ("(-inf, inf)", [-1e300, 0], [np.inf, -np.inf, np.nan]),
    ],
)
def test_a_range_takes_its_ends_as_they_are_written(interval, inside, outside):
    check_range(interval, share=inside)
    for value in outside:
        with pytest.raises(ValueError, match=r"share: .* is not in [\[(]"):
            check_range(interval, share=[*inside, value])


@pytest.mark.parametrize("p", [[0.5, 0.6], [1.2, -0.2], [np.nan, 1.0], [[0.5, 0.5]], 1.0])
def test_what_is_no_distribution_is_refused(p):
    with pytest.raises(ValueError, match=r"p: .* is not a distribution"):
        as_distribution(p)


def test_theory_imports_numpy_scipy_and_itself_only():
    files = sorted(Path(theory.__file__).parent.glob("*.py"))
    imports = [
        n for file in files for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    names = {
        name for n in imports for name in ([n.module] if isinstance(n, ast.ImportFrom) else [a.name for a in n.names])
    }
    standard = {"contextlib", "itertools", "collections.abc", "dataclasses", "numbers", "typing"}
    ours = {name for name in names if name.startswith("symbiosis")}
    assert ours == {"symbiosis.theory.checks"}
    assert {name.split(".")[0] for name in names - ours - standard} == {"numpy", "scipy"}
