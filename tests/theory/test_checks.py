"""Input that is refused in one sentence, and how simulations are read."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator
from theory_tools import FOUR, rng

from symbiosis import theory
from symbiosis.theory import designs, gaussian, many_models, next_token, regression, weak_labels
from symbiosis.theory.checks import as_distribution, as_floats, check_range, max_z, mean_and_error


def test_mean_and_error_by_hand():
    mean, error = mean_and_error(np.array([[1.0, 5.0], [3.0, 5.0]]))  # s = sqrt 2, over sqrt 2
    assert mean.tolist() == [2.0, 5.0] and error == pytest.approx([1.0, 0.0])


def test_max_z_is_the_farthest_point_that_scatters_in_standard_errors():
    draws = {"a": np.array([[0.2, 1.0], [0.2, 3.0], [0.2, 2.0]]), "b": np.ones((3, 2))}  # mean 2, error 1 / sqrt 3
    assert max_z(draws, {"a": np.array([0.2, 3.0]), "c": np.zeros(2)}) == pytest.approx(np.sqrt(3))
    with pytest.raises(ValueError, match="nothing that scatters"):
        max_z(draws, {"b": np.zeros(2)})
    for wrong in ([np.nan, 3.0], 3.0, [3.0]):  # would be left out, or stand for both points
        with pytest.raises(ValueError, match="curve a: "):
            max_z(draws, {"a": wrong})
    for one in ([1.0], 1.0, [np.nan, 1.0]):
        with pytest.raises(ValueError, match=r"repeats: 1 .* at least 2|draws: nan"):
            mean_and_error(one)


def test_a_range_takes_its_ends_as_they_are_written():
    cases = {
        "[0, 1]": ([0, 1, 0.5], [-1e-9, 1.1, np.nan, np.inf]),
        "(0, 1]": ([1e-300, 1], [0, 1.1, np.nan]),
        "[0, 1)": ([0, 0.9], [1, -0.1]),
        "(0, inf)": ([1e-300, 1e300], [0, -1, np.inf, np.nan]),
        "(-inf, inf)": ([-1e300, 0], [np.inf, -np.inf, np.nan]),
    }
    for interval, (inside, outside) in cases.items():
        assert as_floats("share", inside, (-1,), interval).tolist() == inside
        for value in outside:
            with pytest.raises(ValueError, match=r"share: .* is not in [\[(]"):
                as_floats("share", [*inside, value], None, interval)
            with pytest.raises(ValueError, match=r"share: .* is not in [\[(]"):
                check_range(interval, share=value)


def test_a_distribution_sums_to_one_to_the_last_bit():
    third = np.full(3, 1 / 3, dtype=np.float32)
    assert as_distribution(third).sum() == 1 and as_distribution(third).dtype == float
    for p, says in (
        ([0.5, 0.6], "sum of 1.1 .* divide it by its sum"),
        ([1.2, -0.2], r"-0.2 is not in \[0"),
        ([], "sum of 0"),
    ):
        with pytest.raises(ValueError, match=f"p: .*{says}"):
            as_distribution(p)


def test_theory_imports_numpy_scipy_and_itself_only():
    files = sorted(Path(theory.__file__).parent.glob("*.py"))
    imports = [
        n for file in files for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    names = {
        name for n in imports for name in ([n.module] if isinstance(n, ast.ImportFrom) else [a.name for a in n.names])
    }
    standard = {"functools", "itertools", "collections.abc", "dataclasses", "numbers", "typing"}
    ours = {name for name in names if name.startswith("symbiosis")}
    assert ours == {"symbiosis.theory.checks", "symbiosis.theory.designs"}
    assert {name.split(".")[0] for name in names - ours - standard} == {"numpy", "scipy"}


# --- every public function, every argument ---------------------------------------------------------------------------
PLANE = many_models.ring_designs()
FIRST, HALF = many_models.first_fit(PLANE, 0.5, np.ones(2)), many_models.one_round(PLANE, 0.5, 0.5)
BIG = np.ones((3, 4, 5))
BAD = {  # by what the argument is in CALLS; a tuple stands for numbers of any shape
    int: [-1, 2.5, 5.0, np.nan, np.inf, "5", None, True, [3], np.array([3, 4])],
    float: [np.nan, np.inf, -1.0, "0.5", None, [0.5, 0.5], 1j],
    tuple: [np.nan, [0.5, np.inf], -1.0, "0.5", None, [[0.5], [0.5, 0.5]]],
    list: [1.0, BIG[None], "ab", None, [1.0, np.nan], [["a"]]],
    np.ndarray: [1.0, BIG, "ab", None, np.full((2, 2), np.nan), np.array([np.inf, 1.0]), -np.ones((2, 2)), np.ones(7)],
    Generator: [None, 0, np.random],
}
OPTIONAL = {"labeller", "metric", "private_truth", "types"}  # None is a value of theirs
SETTING = {"designs": PLANE, "alpha": (0.5, 0.5), "beta": (0.5, 0.5, 0.5), "truth": np.ones(2)}
DRAWN = {"repeats": 3, "rng": rng()}
CALLS = {  # function: arguments that it takes
    gaussian.gaussian_refit: {"generations": 2, "samples": 5, "ddof": 1},
    gaussian.simulate_gaussian_refit: {"generations": 2, "samples": 5, "ddof": 1, **DRAWN},
    gaussian.mad_moments: {"loop": "fresh_data", "generations": 2, "synthetic": 5, "real": 5, "sampling_bias": 1.0},
    gaussian.mad_fixed_point: {"loop": "fresh_data", "synthetic": 5, "real": 5, "sampling_bias": 1.0},
    gaussian.simulate_mad: {"loop": "fresh_data", "generations": 2, "synthetic": 5, "real": 5, "sampling_bias": 1.0}
    | DRAWN,
    next_token.next_token_moments: {"p": FOUR, "generations": 2, "tokens": 5, "real_tokens": 2},
    next_token.types_alive: {"p": FOUR, "generations": 2, "tokens": 5, "real_tokens": 2, "types": FOUR < 0.2},
    next_token.collapse_time: {"p": FOUR, "tokens": 5},
    next_token.tail_mass: {"generations": 2, "kept": 0.5, "real_share": 0.25},
    next_token.simulate_types: {
        "p": FOUR,
        "generations": 2,
        "tokens": 5,
        "real_tokens": 2,
        "types": FOUR < 0.2,
        **DRAWN,
    },
    regression.regression_risk: {"generations": 2, "rows": 9, "features": 2},
    regression.regression_limits: {"rows": 9, "features": 2},
    regression.simulate_regression: {"generations": 2, "rows": 9, "features": 2, **DRAWN},
    regression.subsample_factor: {"generations": 2},
    regression.simulate_subsample: {"generations": 2, "rows": 9, "features": 2, **DRAWN},
    regression.risk_after_synthetic: {"generations": 2, "rows": 9, "synthetic_rows": 9, "features": 2}
    | {"ridge": 0.1, "synthetic_noise": 1.0, "signal": 1.0},
    regression.mixed_variance: {"generations": 2, "weight": 0.5, "real": 3, "synthetic": 3},
    regression.simulate_mixing: {"generations": 2, "weight": 0.5, "real": 3, "synthetic": 3, **DRAWN},
    regression.mixed_limit: {"weight": (0.5,), "ratio": (1.0,)},
    regression.reused_limit: {"weight": (0.5,), "ratio": (1.0,)},
    regression.best_real_weight: {"ratio": (1.0,)},
    weak_labels.weak_label_accuracy: {"start": [0.1, 0.5], "generations": 2, "labeller": 0.4}
    | {"false_accept": 0.1, "false_reject": 0.1},
    weak_labels.filter_only_accuracy: {"start": [0.1], "generations": 2, "false_accept": 0.1, "false_reject": 0.1},
    weak_labels.simulate_weak_labels: {"start": [0.1], "generations": 2, "labeller": 0.4, "answers": 9, **DRAWN}
    | {"false_accept": 0.1, "false_reject": 0.1},
    weak_labels.vote_accuracy: {"labeller": (0.4, 0.6), "votes": 3},
    many_models.Designs: {"public": np.eye(2), "private": [np.eye(2)], "synthetic": [np.eye(2)], "noise": 1.0}
    | {"synthetic_noise": 1.0, "public_weight": 1.0, "private_weights": (1.0,), "synthetic_weights": (1.0,)},
    many_models.Designs.from_subspaces: {"public": np.eye(2)[:, :1], "private": [np.eye(2)[:, :1]]}
    | {"n_public": 1.0, "n_private": 1.0, "n_synthetic": 1.0},
    many_models.first_fit: {"designs": PLANE, "beta": 0.5, "truth": np.ones(2), "private_truth": np.ones((4, 2))},
    many_models.one_round: {"designs": PLANE, "alpha": 0.5, "beta": 0.5},
    many_models.trajectory: {"first": FIRST, "rounds": [HALF]},
    many_models.subsampled_trajectory: {"first": FIRST, "one": HALF, "n_rounds": 2},
    many_models.fixed_point: {"first": FIRST, "one": HALF},
    many_models.spectral_radius: {"one": HALF},
    many_models.unbiased_limit: {"designs": PLANE, "alpha": 0.5, "beta": 0.5},
    many_models.data_shares: {"moments": FIRST, "designs": PLANE},
    many_models.mse: {"moments": FIRST, "truth": np.ones(2), "metric": np.eye(2)},
    many_models.ideal_mse: {"designs": PLANE, "metric": np.eye(2)},
    many_models.relative_efficiency: {"moments": FIRST, "designs": PLANE, "truth": np.ones(2), "metric": np.eye(2)},
    many_models.disagreement: {"moments": FIRST},
    many_models.simulate: {**SETTING, "n_rounds": 2, "n_runs": 3, "rng": rng()},
    many_models.shares_by_round: {"alpha": (0.5, 0.5), "beta": (0.5, 0.5, 0.5), "n_rounds": 2},
    many_models.ring_designs: {"n_entities": 3, "private": 1.0, "public": 1.0, "synthetic": 1.0},
    many_models.subspace_designs: {"seed": 3, "private": 1.0, "public": 1.0, "synthetic": 1.0},
    many_models.aligned_designs: {"n_entities": 3, "private": 1.0, "public": 1.0, "synthetic": 1.0},
    many_models.separate_designs: {"n_entities": 3, "rows": 2.0},
    many_models.task_metrics: {"designs": PLANE},
    many_models.round_curves: {**SETTING, "n_rounds": 2},
    many_models.round_draws: {**SETTING, "n_rounds": 2, "n_runs": 3, "rng": rng()},
    many_models.efficiency_surface: {"designs": PLANE, "shares": (0.5,)},
    many_models.theory_change: {"n_entities": 3, "alpha": (0.5, 0.5), "n_rounds": 2, "beta": (0.5,) * 3},
}


MODULES = (designs, gaussian, many_models, next_token, regression, weak_labels)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_what_makes_no_sense_is_refused_in_one_sentence_that_names_the_argument(module):
    of_module = {function: given for function, given in CALLS.items() if function.__module__ == module.__name__}
    functions = {f for name, f in vars(module).items() if inspect.isfunction(f) and name[0] != "_"}
    assert {f for f in functions if f.__module__ == module.__name__} <= set(of_module)  # none is left out
    for function, given in of_module.items():
        function(**given)
        for name, value in given.items():
            for bad in BAD.get(type(value), []):
                if bad is None and name in OPTIONAL:
                    continue
                with pytest.raises((ValueError, TypeError)) as refusal:
                    function(**given | {name: bad})
                says = str(refusal.value)
                assert says.startswith(name) and ": " in says and len(says) <= 300 and "\n" not in says, (
                    function,
                    says,
                )
