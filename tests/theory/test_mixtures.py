"""EM by hand, what a recursion of points is measured by, and the counting that it comes down to."""

import numpy as np
import pytest

from symbiosis.theory.mixtures import INSIDE, POINTS, SPREAD, Mixture, Source, simulate_mixture
from symbiosis.theory.next_token import types_alive

SHARES, TAIL = np.array([0.5, 0.3, 0.1, 0.06, 0.04]), np.array([False, False, True, True, True])


def source(seed=0):
    return Source.make(SHARES, TAIL, np.random.default_rng(seed))


def test_em_finds_the_moments_of_clusters_that_do_not_touch():
    rng = np.random.default_rng(0)
    clusters = [rng.normal(place, 0.3, (n, 2)) for place, n in ((-10, 60), (10, 40))]
    model = Mixture(np.array([0.4, 0.4, 0.2]), np.array([[-8.0, -8], [8, 8], [0, 500]]), np.ones(3))
    fitted = model.fit(np.vstack(clusters))
    assert fitted.shares == pytest.approx([0.6, 0.4, 0.0], abs=1e-9)
    assert fitted.means[:2] == pytest.approx(np.array([c.mean(axis=0) for c in clusters]), abs=1e-6)
    assert fitted.variances[:2] == pytest.approx([c.var(axis=0).mean() for c in clusters], rel=1e-6)
    assert fitted.means[2].tolist() == [0, 500]  # nobody belongs to it: it stays, and is never drawn again
    assert np.abs(fitted.sample(500, rng)).max() < 20


def test_a_step_of_em_never_lowers_the_likelihood():
    truth, rng = source().truth, np.random.default_rng(1)
    x, model = truth.sample(200, rng), Mixture(np.full(5, 0.2), truth.means + 0.7, np.full(5, 2.0))
    path = [model.log_density(x).sum()]
    for _ in range(12):
        model = model.fit(x, steps=1)
        path.append(model.log_density(x).sum())
    assert np.diff(path).min() > -1e-9 and path[-1] > path[0] + 50


def test_a_cut_sample_is_the_likeliest_share():
    truth, rng = source().truth, np.random.default_rng(2)
    whole, cut = truth.sample(4000, rng), truth.sample(4000, rng, kept=0.5)
    assert len(cut) == 4000 and truth.log_density(cut).min() > np.quantile(truth.log_density(whole), 0.47)


def test_measures_of_points_by_hand():
    s = source()
    x = np.vstack([np.repeat(s.truth.means[:1], 6, axis=0), s.truth.means[2:4], s.truth.means[4:] + 50 * SPREAD])
    found = s.measures(x)  # six in the head, two rare ones, and one that is nowhere near its mode
    assert found["head_coverage"] == 1 / 2 and found["tail_coverage"] == 2 / 3
    assert found["precision"] == pytest.approx(8 / 9 / INSIDE) and 2 / 9 <= found["tail_mass"] <= 3 / 9
    own = s.measures(s.truth.sample(20_000, np.random.default_rng(3)))
    assert own["precision"] == pytest.approx(1, abs=0.01) and own["tail_mass"] == pytest.approx(0.2, abs=0.01)


def test_a_recursion_of_a_mixture_loses_modes_as_counted_types_do_and_real_points_hold_them():
    shares, tail = np.append(np.full(10, 0.096), [0.01] * 4), np.arange(14) >= 10
    counted = types_alive(shares, 6, tokens=POINTS, types=tail)[-1] / 4
    ends, held = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        s = Source.make(shares, tail, rng)
        ends.append(simulate_mixture(s, 5, rng=rng)[-1]["tail_coverage"])
        held.append(simulate_mixture(s, 5, real_share=0.5, rng=rng)[-1]["tail_coverage"])
    assert abs(np.mean(ends) - counted) < 3 * np.std(ends) / np.sqrt(40) + 0.02  # a mode of one point may lie outside
    assert np.mean(held) > np.mean(ends) + 0.05


def test_bad_input_is_refused_in_a_sentence():
    s, rng = source(), np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"kept: 0 is not in \(0, 1\]"):
        simulate_mixture(s, 2, kept=0, rng=rng)
    with pytest.raises(ValueError, match="generations"):
        simulate_mixture(s, 0, rng=rng)
    with pytest.raises(TypeError, match="rng"):
        simulate_mixture(s, 1, rng=3)
