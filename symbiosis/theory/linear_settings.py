"""Settings of the linear theory that notebook 04 shows: their designs, and what `many_models` says of them.

Losses are `loss_own` and `loss_others`, mean squared errors of an entity's own task and of the others' tasks.

The setting: Vu, Reeves and Wenger 2025, arXiv:2505.21677.
"""

from collections.abc import Sequence

import numpy as np

from symbiosis.theory.many_models import (
    Designs,
    disagreement,
    first_fit,
    mse,
    one_round,
    owner_mse,
    random_subspaces,
    relative_efficiency,
    simulate,
    surface,
    trajectory,
)


def directions(n_entities: int) -> np.ndarray:
    """(K, 2, 1) unit vectors at the angles k pi / K, k = 0..K-1: lines spread evenly over the plane."""
    angles = np.arange(n_entities) * np.pi / n_entities
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, :, None]


def ring_designs(n_entities: int = 4) -> Designs:
    """K entities in the plane that know one direction each, and a public one between the first two.

        S_k = 10 u_k u_k',   S_0 = 50 v v',   S~_k = 4 (u_k u_k' + v v'),   v at the angle pi / (2 K)

    For K = 4 the setting 'T2' of the theory card, whose relative efficiency is largest at alpha = beta = 0.5; it was
    chosen for that.
    """
    between = np.pi / (2 * n_entities)
    public = np.array([[np.cos(between)], [np.sin(between)]])
    return Designs.from_subspaces(public, directions(n_entities), n_public=50, n_private=10, n_synthetic=8)


def subspace_designs(seed: int) -> Designs:
    """Four entities that know random subspaces of rank 3 in 8 dimensions, beside a public one of rank 4.

    'A*' of the theory card, S_k = 20 U_k U_k', S_0 = 40 U_0 U_0', 10 synthetic rows each: nobody identifies the truth
    alone (3 + 4 < 8). Chosen after a scan on other seeds than the 100..119 that are reported.
    """
    public, private = random_subspaces(4, 8, private_rank=3, public_rank=4, rng=np.random.default_rng(seed))
    return Designs.from_subspaces(public, private, n_public=40, n_private=20, n_synthetic=10)


def separate_designs(n_entities: int, rows: float = 20) -> Designs:
    """The linear counterpart of the experiment: K tasks that share nothing, and public rows that hold none of them.

    K + 1 orthogonal directions e_0..e_K, with n rows in each data set, as every training set of the experiment has n:

        S_0 = n e_0 e_0',   S_k = n e_k e_k',   S~_k = n / 2 (e_k e_k' + e_0 e_0')

    rows: n, above 0.
    """
    axes = np.eye(n_entities + 1)
    sizes = dict.fromkeys(["n_public", "n_private", "n_synthetic"], rows)
    return Designs.from_subspaces(axes[:, :1], axes[1:, :, None], **sizes)


def task_metrics(designs: Designs) -> dict[str, np.ndarray]:
    """Metrics of the mean squared error: (K, d, d) of each entity's own task, and the mean of the others' tasks.

        W_k = S_k / |S_k|  (largest eigenvalue 1),      mean_{j != k} W_j

    Needs K of at least 2.
    """
    own = designs.private / np.linalg.norm(designs.private, ord=2, axis=(1, 2))[:, None, None]
    return {"loss_own": own, "loss_others": (own.sum(axis=0) - own) / (len(own) - 1)}


def round_curves(designs: Designs, alpha: float, beta: float, truth: np.ndarray, n_rounds: int) -> dict:
    """Closed forms by round: {loss_own, loss_others, disagreement}: (n_rounds + 1,), squared units of a label.

    Mean squared errors are means over the entities, in the metrics of `task_metrics`; `disagreement` as in the theory.
    Raises as `one_round` and `first_fit`.
    """
    one = one_round(designs, alpha, beta)
    moments = trajectory(first_fit(designs, beta, truth), [one] * n_rounds)
    metrics = task_metrics(designs)
    curves = {name: np.array([mse(m, truth, w).mean() for m in moments]) for name, w in metrics.items()}
    return curves | {"disagreement": np.array([disagreement(m) for m in moments])}


def round_draws(
    designs: Designs,
    alpha: float,
    beta: float,
    truth: np.ndarray,
    n_rounds: int,
    *,
    n_runs: int,
    rng: np.random.Generator,
) -> dict:
    """The same three by drawn labels and explicit least squares: {name: (n_runs, n_rounds + 1)}, one number per run."""
    drawn = simulate(designs, alpha, beta, truth, n_rounds=n_rounds, n_runs=n_runs, rng=rng)
    off = drawn - truth  # (n_rounds + 1, n_runs, K, d)
    metrics = task_metrics(designs)
    errors = {name: np.einsum("trki,kij,trkj->rt", off, w, off) / off.shape[2] for name, w in metrics.items()}
    one, other = np.triu_indices(off.shape[2], 1)
    apart = ((off[:, :, one] - off[:, :, other]) ** 2).sum(axis=-1).mean(axis=-1)
    return errors | {"disagreement": apart.T}


def aligned_surface(
    alphas: Sequence[float],
    betas: Sequence[float],
    *,
    n_entities: int = 4,
    private: float = 20,
    public: float = 10,
    synthetic: float = 5,
) -> np.ndarray:
    """(alphas, betas) relative efficiency where every direction has one owner, public rows and talk of all.

    RE = K ideal / (owner + (K - 1) others),     from `owner_mse`; as there, alpha below 1
    """
    found = [[owner_mse(n_entities, private, public, synthetic, a, b) for b in betas] for a in alphas]
    return np.array([[n_entities * x.ideal / (x.owner + (n_entities - 1) * x.others) for x in row] for row in found])


def efficiency_surface(designs: Designs, shares: Sequence[float]) -> np.ndarray:
    """(shares, shares) relative efficiency over alpha by beta of designs whose limit has no bias.

    The ratio of means over the entities; the truth does not matter, since no limit is biased here.
    """
    truth = np.ones(len(designs.public))
    return surface(designs, shares, shares, truth, lambda m: relative_efficiency(m, designs, truth)[1])[0]


def theory_change(n_entities: int, alpha: float, n_rounds: int, beta: float = 0.5) -> dict[str, float]:
    """What the linear counterpart expects of the losses: {loss_own, loss_others}, round n_rounds minus round 0.

    Mean squared errors of `separate_designs` with the truth (1, ..., 1) and noise 1. Finite rounds, so that alpha = 1
    has a value as well.
    """
    curves = round_curves(separate_designs(n_entities), alpha, beta, np.ones(n_entities + 1), n_rounds)
    losses = ("loss_own", "loss_others")
    return {name: round(float(curves[name][-1] - curves[name][0]), 9) for name in losses}  # equal cells tie exactly
