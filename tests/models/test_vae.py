"""Autoencoders side by side: they learn what they are shown, alone, and a cut of their code is a cut."""

import numpy as np
import pytest
import torch

from symbiosis.models import vae
from symbiosis.theory.mixtures import Source


def two_blobs(n, rng):
    return np.array([[-3.0, 0], [3, 1]])[rng.integers(2, size=n)] + 0.4 * rng.standard_normal((n, 2))


def test_it_learns_where_points_are_and_knows_nothing_of_the_ones_beside_it():
    rng = np.random.default_rng(0)
    x = two_blobs(200, rng)
    models = vae.Autoencoders(2, torch.Generator().manual_seed(0))
    before = models.loss(torch.tensor(np.stack([x, x]), dtype=torch.float32)).detach()
    models.fit(np.stack([x, x[:, ::-1]]), 250)  # the second one is shown them with the axes exchanged
    after = models.loss(torch.tensor(np.stack([x, x]), dtype=torch.float32)).detach()
    assert after[0] < before[0] / 3 and after[1] > 3 * after[0]
    drawn = models.sample(400, 1.0)
    (wide, flat), (narrow, tall) = drawn.std(axis=1)
    assert wide > 2 * flat and tall > 2 * narrow and np.abs(drawn[0].mean(axis=0) - x.mean(axis=0)).max() < 1


def test_a_cut_shows_the_likeliest_codes_only(monkeypatch):
    models = vae.Autoencoders(1, torch.Generator().manual_seed(1))
    monkeypatch.setattr(models, "_layers", lambda z, which: z)  # what is decoded is the code itself
    monkeypatch.setattr(vae, "SPREAD", 0.0)
    radius = np.linalg.norm(models.sample(5000, 0.5)[0] / vae.SCALE, axis=1)
    assert radius.max() <= np.sqrt(2 * np.log(2)) + 1e-6
    whole = np.linalg.norm(models.sample(5000, 1.0)[0] / vae.SCALE, axis=1)
    assert np.mean(whole <= radius.max()) == pytest.approx(0.5, abs=0.03)


def test_a_recursion_gives_the_same_numbers_again_and_real_points_are_measured_too(monkeypatch):
    monkeypatch.setattr(vae, "FIRST_STEPS", 5)
    monkeypatch.setattr(vae, "STEPS", 2)
    shares, tail = np.full(6, 1 / 6), np.arange(6) > 3
    sources = [Source.make(shares, tail, np.random.default_rng(s)) for s in (0, 1)]
    chains = {"cut": {"kept": 0.9}, "real": {"kept": 0.9, "real_share": 1.0}}
    one, again = (vae.simulate_vae(sources, 2, chains, seed=3) for _ in range(2))
    assert one == again and [len(rows) for rows in one["cut"]] == [2, 2]
    assert all(row["precision"] > 0.95 and row["tail_coverage"] == 1 for rows in one["real"] for row in rows)
    assert one["cut"][0][0]["precision"] < 0.9  # hardly trained
