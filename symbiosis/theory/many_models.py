"""K entities that fit linear models to one another's labels: moments in closed form, beside their simulation.

Real labels are y = x'theta* + noise, on public rows that all entities share and private rows of each. In every round
t >= 1 entity j writes labels x'theta[t-1, j] + noise on rows of its own, and each entity k fits the same pool of these,
its private and the public rows by least squares (minimum norm where a direction is seen by none of them), with shares

    (1 - alpha) beta  private,     (1 - alpha) (1 - beta)  public,     alpha / K  each of the K synthetic sets.

Real data stay; of the synthetic ones only the newest round is used. Features are fixed; only labels are random, the
real ones drawn once, the synthetic ones anew in every round. With Gram matrices S = X'X, the loss weight c of a row (1
if losses are summed over rows, 1/n if averaged over the n rows of one data set) and the scores b = c X'y of real data:

    D_k = (1 - alpha) (beta c_k S_k + (1 - beta) c_0 S_0) + alpha / K sum_j c_j S~_j,
    theta_tk = (1 - alpha) D_k^+ (beta b_k + (1 - beta) b_0) + alpha / K D_k^+ sum_j c_j S~_j theta_{t-1,j} + xi_tk.

Letters: K entities, d features. Vectors of all entities are (K, d), or (K*d,) entity by entity.
K = 1 is the single model that listens to itself; everything but `disagreement` is defined there.

The setting: Vu, Reeves and Wenger 2025, arXiv:2505.21677. The conventions above and the formulas below are worked out
here. The loss has to add up over the K synthetic sets; the mean over the merged pool would divide by K a second time.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.linalg import solve_discrete_lyapunov

from symbiosis.theory.checks import NULL, as_floats, as_gram, brief, check_counts, check_draws, check_range, gram_rows
from symbiosis.theory.designs import (  # noqa: F401
    Designs,
    aligned_designs,
    ring_designs,
    separate_designs,
    subspace_designs,
    task_metrics,
)

Shares = float | Sequence[float]  # of every round alike, or by round
RADIUS_TOLERANCE = 1e-9  # a spectral radius within this of 1 is 1 up to rounding: alpha = 1 gives 1 - 2e-16 as well


class NoFixedPoint(ValueError):
    """The spectral radius of Q is 1 or more: there is no asymptotic value to report."""


class Scores(NamedTuple):
    """Scores b_1, ..., b_K, b_0 of the real data: mean (K+1, d), and roots (K+1, d, d) R_i with Cov b_i = R_i'R_i."""

    mean: np.ndarray
    roots: np.ndarray


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of all entities' estimates; the latter by blocks, as all that is common to them has rank d.

        theta_k = mean_k + own_k g_k + common_k q,    Cov(g_i, q) = overlap_i,    all g_i and q standard normal

    mean     (K, d)
    own      (K, d, d) of the noise g_k of entity k's private labels
    common   (K, d, d) of what all entities read: public labels and the pool
    overlap  (K+2, d, d) of q with the noise of the private labels, of the public ones and of all synthetic ones
    scores   of the real data, which stay the same in all rounds
    """

    mean: np.ndarray
    own: np.ndarray
    common: np.ndarray
    overlap: np.ndarray
    scores: Scores

    @property
    def variance(self) -> np.ndarray:
        """(K, d, d) covariance of each entity's estimate."""
        heard = self.own @ self.overlap[:-2]
        both = heard + self.common
        return self.own @ self.own.mT - heard @ heard.mT + both @ both.mT

    @property
    def covariance(self) -> np.ndarray:
        """(K, d, K, d) covariance of all estimates; (K d)^2 numbers, which nothing else here makes."""
        k, d = self.mean.shape
        left, right = np.concatenate(self.own @ self.overlap[:-2] + self.common / 2), np.concatenate(self.common)
        whole = np.hstack([left, right]) @ np.hstack([right, left]).T
        blocks = whole.reshape(k, d, k, d)
        blocks[np.arange(k), :, np.arange(k)] = self.variance
        return blocks


class Round(NamedTuple):
    """One round: theta_tk = D_k^+ (private b_k + public b_0 + heard sum_j (T_j theta_{t-1,j} + noise of its labels)).

    inverses  (K, d, d) D_k^+
    talk      (K, d, d) T_j = c_j S~_j, what each puts into the pool
    noise     (d, d) root of N = synthetic_noise^2 sum_j c_j^2 S~_j = noise'noise
    private   (1 - alpha) beta
    public    (1 - alpha) (1 - beta)
    heard     alpha / K
    """

    inverses: np.ndarray
    talk: np.ndarray
    noise: np.ndarray
    private: float
    public: float
    heard: float

    @property
    def passed(self) -> np.ndarray:
        """(d, d) alpha / K sum_j T_j D_j^+: what comes back to the pool of what it said a round ago."""
        return self.heard * (self.talk @ self.inverses).sum(axis=0)

    @property
    def Q(self) -> np.ndarray:
        """(K*d, K*d) what each takes over from the last estimate of each; of rank d at most."""
        return self.heard * np.concatenate(self.inverses) @ np.hstack(self.talk)


def first_fit(designs: Designs, beta: float, truth: np.ndarray, private_truth: np.ndarray | None = None) -> Moments:
    """Moments of the fits to real data alone, before anyone listens (t = 0).

        theta_0k = A_k^+ (beta b_k + (1 - beta) b_0),   A_k = beta c_k S_k + (1 - beta) c_0 S_0
        E b_k = c_k S_k theta_k,   E b_0 = c_0 S_0 theta*,   Cov b_i = noise^2 c_i^2 S_i, independent

    Args:
        beta:          private share of the loss, in [0, 1].
        truth:         (d,) theta*, parameters behind the public labels.
        private_truth: (K, d) theta_k, parameters behind private labels; None: theta* for all, as in the paper.

    A direction in which entity k has no real data is estimated as 0 (minimum norm), without variance.
    The cost is K singular value decompositions of (2 d, d) rows: 0.4 s at K = 20, d = 200 on one core.
    """
    truth, private_truth = _truths(designs, truth, private_truth)
    grams, weights = designs.real
    mean = weights[:, None] * (grams @ np.concatenate([private_truth, truth[None]])[:, :, None])[:, :, 0]
    scores = Scores(mean, designs.noise * np.sqrt(weights)[:, None, None] * designs.rows[0])
    said = np.zeros((len(grams) + 1, *truth.shape * 2))
    return _listen(one_round(designs, 0.0, beta), scores, said, np.zeros_like(truth))


def one_round(designs: Designs, alpha: float, beta: float) -> Round:
    """What one round does; alpha and beta may differ from round to round, and beta from that of the first fit.

    Args:
        alpha: synthetic share of the loss, in [0, 1].
        beta:  private share of its real part, in [0, 1].
    """
    inverse = np.linalg.pinv(_read(designs, alpha, beta), rtol=NULL)  # (K, d, 2 d)
    roots = np.sqrt(designs.synthetic_weights)[:, None, None]
    noise = np.linalg.qr(np.concatenate(designs.synthetic_noise * roots * designs.rows[1]), mode="r")
    talk = roots**2 * designs.synthetic
    shares = ((1 - alpha) * beta, (1 - alpha) * (1 - beta), alpha / len(talk))
    return Round(inverse @ inverse.mT, talk, noise, *shares)


def trajectory(first: Moments, rounds: Iterable[Round]) -> list[Moments]:
    """Moments after 0, 1, 2, ... rounds, for rounds that may differ; defined for any spectral radius.

        H_t = keep_t + Q_t H_{t-1},                  Gamma_t = Q_t Gamma_{t-1} Q_t' + Omega_t,
        E theta_t = H_t E b,                         Cov theta_t = H_t Cov(b) H_t' + Gamma_t

    `[round] * t` repeats one round t times. All a round needs to know of the last is what the pool says, d numbers, so
    it costs K products of (d, d) matrices and one QR of ((K + 2) d, d): 0.1 s at K = 20, d = 200 on one core.
    """
    moments = [first]
    for one in rounds if np.iterable(rounds) and not isinstance(rounds, Round) else [rounds]:
        _check_round(first, one, "rounds")
        said, said_mean = _tell(one, moments[-1])
        said[-1] = np.linalg.qr(np.concatenate([said[-1].T, one.heard * one.noise]), mode="r").T
        moments.append(_listen(one, first.scores, said, said_mean))
    return moments


def subsampled_trajectory(first: Moments, one: Round, n_rounds: int) -> list[Moments]:
    """`trajectory` of equal rounds whose synthetic rows are drawn from those of all rounds so far, old labels kept.

        the pool of round t says   (1/t) sum_{m<t} sum_j T_j theta_mj + noise_t,   Cov(noise_t, noise_u) = N / max(t, u)

    and N for t = u: each set keeps its size, drawn without replacement, and a row of an earlier draw is in a later one
    with chance 1 / max(t, u). For many rows in each direction: that Gram matrices differ from draw to draw is left out.

    The design: Kazdan et al., arXiv 2410.16713; for K entities derived here.
    """
    _check_round(first, one)
    check_counts(0, n_rounds=n_rounds)
    t, d = np.arange(1, n_rounds + 1), len(one.passed)
    shared = 1 / np.maximum.outer(t, t)
    np.fill_diagonal(shared, 1.0)
    earlier = np.tril(np.ones((n_rounds, n_rounds)), -1) / t[:, None]
    solved = np.linalg.inv(np.eye(n_rounds * d) - np.kron(earlier, one.passed))
    noise = solved @ np.kron(shared, one.heard**2 * one.noise.T @ one.noise) @ solved.T
    moments, told = [first], []
    for i in range(n_rounds):
        told.append(_tell(one, moments[-1]))
        said, said_mean = (sum(parts) / len(told) for parts in zip(*told, strict=True))
        said[-1] = gram_rows(noise[i * d : (i + 1) * d, i * d : (i + 1) * d]).T
        moments.append(_listen(one, first.scores, said, said_mean))
    return moments


def spectral_radius(one: Round) -> float:
    """rho(Q), at least 0; the limit exists below 1, and is then approached as rho(Q)^t.

    Computed from the d x d matrix `passed`, whose non-zero eigenvalues are those of Q. With one common Gram matrix
    of synthetic rows rho <= 1; with matrices of each entity's own it can exceed 1 at any alpha in (0, 1): entities that
    talk most about what they have no data on drive one another away from the truth.
    """
    return float(np.abs(np.linalg.eigvals(one.passed)).max())


def fixed_point(first: Moments, one: Round) -> Moments:
    """Moments in the limit of many equal rounds.

        H = (I - Q)^-1 keep,     Gamma = Q Gamma Q' + Omega,     Cov = H Cov(b) H' + Gamma

    Solved in d dimensions instead of K*d, for what the pool says: with M = `passed`, (I - M)^-1 of the real data, and
    U = M U M' + (alpha / K)^2 N of the noise. Of `first` only the real data matter. `unbiased_limit` says where the
    mean is the common truth, also for entities whose own real data do not identify it.

    Raises NoFixedPoint (a ValueError) where rho(Q) >= 1, alpha = 1 included: use `trajectory` there.
    """
    _check_round(first, one)
    radius = spectral_radius(one)
    if not radius < 1 - RADIUS_TOLERANCE:
        why = f"rho(Q) = {radius:.7g} is not below 1: no asymptotic value exists"
        raise NoFixedPoint(f"{why}; use trajectory, an alpha below 1, or talk about what entities have real data on")
    scores, fed_back = first.scores, np.linalg.solve(np.eye(len(one.passed)) - one.passed, np.eye(len(one.passed)))
    told = fed_back @ (one.heard * one.private * one.talk @ one.inverses)  # (K, d, d) of the private scores
    public = one.public * fed_back @ one.passed  # (d, d) of the public ones, beyond their direct part
    said = np.zeros_like(first.overlap)
    said[:-2] = told @ scores.roots[:-1].mT
    said[-2] = public @ scores.roots[-1].T
    said[-1] = gram_rows(solve_discrete_lyapunov(one.passed, one.heard**2 * one.noise.T @ one.noise)).T
    return _listen(one, scores, said, np.einsum("kij,kj->i", told, scores.mean[:-1]) + public @ scores.mean[-1])


def _tell(one: Round, last: Moments) -> tuple[np.ndarray, np.ndarray]:
    """What the pool says, (K+2, d, d) by whose noise it is and (d,) on average, but for the noise of its labels."""
    said = (one.talk @ last.common).sum(axis=0) @ last.overlap.mT
    said[:-2] += one.talk @ last.own
    return one.heard * said, one.heard * np.einsum("kij,kj->i", one.talk, last.mean)


def _listen(one: Round, scores: Scores, said: np.ndarray, said_mean: np.ndarray) -> Moments:
    """Estimates of all who read the same pool, which says `said` (K+2, d, d) of every noise, and on average (d,)."""
    said[-2] += one.public * scores.roots[-1].T
    overlap, root = np.linalg.qr(np.concatenate(said.mT))  # ((K+2)*d, d), (d, d)
    own = one.private * one.inverses @ scores.roots[:-1].mT
    read = one.private * scores.mean[:-1] + one.public * scores.mean[-1] + said_mean
    mean = (one.inverses @ read[:, :, None])[:, :, 0]
    return Moments(mean, own, one.inverses @ root.T, overlap.reshape(said.shape), scores)


def _check_round(first: Moments, one: Round, name: str = "one") -> None:
    if not isinstance(one, Round):
        raise TypeError(f"{name}: {brief(one)} is no Round; give what one_round returns")
    _check_size(name, one.inverses, first.own)


def _check_size(name: str, given: np.ndarray, expected: np.ndarray) -> None:
    if given.shape[:2] != expected.shape[:2]:
        sizes = f"(K, d) is {given.shape[:2]} where the other argument has {expected.shape[:2]}"
        raise ValueError(f"{name}: {sizes}; give those of one setting")


def unbiased_limit(designs: Designs, alpha: float, beta: float) -> bool:
    """Whether every entity ends at the common truth on average, whatever that truth is.

        rho(Q) < 1,   and no D_k leaves a direction unseen:  rank D_k = d for every k

    Derived here: the error of the mean obeys e_k = -(I - D_k^+ D_k) theta* + (Q e)_k, and the pool says nothing along
    the directions of the first term, as D_k holds all synthetic rows. With shares inside (0, 1) no direction may be
    missing from entity k's own, the public and all written rows together; at alpha = 0 from the real ones.
    """
    if not np.all(np.linalg.matrix_rank(_read(designs, alpha, beta), rtol=NULL) == len(designs.public)):
        return False
    return spectral_radius(one_round(designs, alpha, beta)) < 1 - RADIUS_TOLERANCE


def data_shares(moments: Moments, designs: Designs) -> np.ndarray:
    """Whose data is in whose mean: (K, K+1), entity by the private data of each and, last, the public ones.

        share_ki = tr(H_ki c_i S_i) / d,   E theta_k = sum_i H_ki c_i S_i theta_i

    A line adds up to 1 where the mean is unbiased, to less where directions are unseen. Single shares may be negative.
    """
    _check_size("moments", moments.mean, designs.private)
    check_range("(0, inf)", noise=designs.noise)
    roots, d = moments.scores.roots, moments.mean.shape[1]
    shares = np.einsum("kab,iba->ki", moments.common, moments.overlap[:-1].mT @ roots)
    shares[:, :-1] += np.diag(np.einsum("kab,kba->k", moments.own, roots[:-1]))
    return shares / (d * designs.noise**2 * designs.real[1])


def mse(moments: Moments, truth: np.ndarray, metric: np.ndarray | None = None) -> np.ndarray:
    """Mean squared error of each entity: (K,), at least 0, in squared units of a label if W is a Gram matrix per row.

        MSE_k = tr W (V_kk + b_k b_k'),     b_k = E theta_k - theta*

    Args:
        truth:  (d,) theta*, or (K, d) one for each entity.
        metric: W, (d, d) or one per entity (K, d, d); None: I, the error of the parameters. S_k / n_k is the error on
                entity k's own task, the average of the others' matrices its transfer.
    """
    truth = as_floats("truth", truth)
    bias = moments.mean - as_floats("truth", truth, moments.mean.shape[truth.ndim != 2 :])
    spread = moments.variance + bias[:, :, None] * bias[:, None, :]
    return np.einsum("...ij,...ij->...", _metric(metric, *bias.shape), spread)


def ideal_mse(designs: Designs, metric: np.ndarray | None = None) -> np.ndarray:
    """Error of ordinary least squares on all real data at once: a number, or (K,) for a metric (K, d, d).

        MSE_id = noise^2 tr W (S_0 + sum_k S_k)^-1

    No unbiased linear estimator is better (Gauss-Markov), whatever the weights in the loss. For one common truth.

    Raises ValueError where all real data together leave a direction unseen.
    """
    pooled = designs.public + designs.private.sum(axis=0)
    if np.linalg.matrix_rank(pooled, rtol=NULL, hermitian=True) < len(pooled):
        raise ValueError("designs: all real data together leave a direction unseen; no ideal estimator exists")
    weights = _metric(metric, *designs.private.shape[:2])
    return designs.noise**2 * np.einsum("...ij,ij->...", weights, np.linalg.inv(pooled))


def relative_efficiency(
    moments: Moments, designs: Designs, truth: np.ndarray, metric: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Of each entity, (K,), and of all together; positive, 1 is as good as all real data at one place.

        RE_k = MSE_id / MSE_k,     RE = mean_k MSE_id / mean_k MSE_k     (a ratio of means, not the mean of RE_k)

    At most 1 where estimates are unbiased; biased ones (finite t, or an unseen direction) can exceed 1 for a small
    truth. Arguments as in `mse`; raises as `ideal_mse`, where there is no noise, and for moments of another K or d.
    """
    _check_size("moments", moments.mean, designs.private)
    check_range("(0, inf)", noise=designs.noise)
    errors = mse(moments, truth, metric)
    ideal = np.broadcast_to(ideal_mse(designs, metric), errors.shape)
    return ideal / errors, float(ideal.mean() / errors.mean())


def disagreement(moments: Moments) -> float:
    """Delta, how far the entities are apart, at least 0; homogenisation is its fall over rounds.

        Delta = mean_{k < l} E |theta_k - theta_l|^2

    In squared units of a parameter. Raises ValueError for K = 1, which has no pair.
    """
    check_counts(2, entities=len(moments.mean))
    own, heard, common, mean = (
        x.reshape(len(x), -1) for x in (moments.own, moments.own @ moments.overlap[:-2], moments.common, moments.mean)
    )
    second = heard @ common.T + common @ heard.T + common @ common.T + np.diag((own**2).sum(axis=1))
    second += mean @ mean.T  # (K, K) E theta_k'theta_l
    one, other = np.triu_indices(len(second), 1)
    return max(0.0, float((second[one, one] + second[other, other] - 2 * second[one, other]).mean()))


def simulate(
    designs: Designs,
    alpha: Shares,
    beta: Shares,
    truth: np.ndarray,
    *,
    n_rounds: int,
    n_runs: int,
    rng: Generator,
    private_truth: np.ndarray | None = None,
) -> np.ndarray:
    """Estimates by drawn labels and explicit weighted least squares: (n_rounds + 1, n_runs, K, d).

    Knows none of the formulas above: a Monte Carlo check of them. truth, private_truth and what they raise as in
    `first_fit`, alpha and beta as in `round_curves`. Labels are Gaussian.
    """
    check_draws(rng, n_runs=n_runs)
    truth, private_truth = _truths(designs, truth, private_truth)

    def labelled(gram, theta, noise):
        rows = gram_rows(gram)
        return rows, rng.normal(np.broadcast_to(theta @ rows.T, (n_runs, len(rows))), noise)

    own = [labelled(*pair, designs.noise) for pair in zip(designs.private, private_truth, strict=True)]
    public, estimates = labelled(designs.public, truth, designs.noise), []
    for heard, private in shares_by_round(alpha, beta, n_rounds):
        pool = [(*public, (1 - heard) * (1 - private) * designs.public_weight)]
        for j, c in enumerate(designs.synthetic_weights if estimates else []):
            written = labelled(designs.synthetic[j], estimates[-1][:, j], designs.synthetic_noise)
            pool.append((*written, heard / len(own) * c))
        parts = [(*own[k], (1 - heard) * private * c) for k, c in enumerate(designs.private_weights)]
        estimates.append(np.stack([_least_squares([part, *pool]) for part in parts], axis=1))
    return np.array(estimates)


def _least_squares(parts: list[tuple]) -> np.ndarray:
    """(n_runs, d) minimum-norm weighted least squares; a part is (rows (n, d), labels (n_runs, n), weight of a row)."""
    x = np.concatenate([np.sqrt(weight) * x for x, _, weight in parts])
    y = np.concatenate([np.sqrt(weight) * y for _, y, weight in parts], axis=1)
    return y @ np.linalg.pinv(x, rtol=1e-11).T


def shares_by_round(alpha: Shares, beta: Shares, n_rounds: int) -> list[tuple[float, float]]:
    """(alpha_t, beta_t) of t = 0..n_rounds, with alpha_0 = 0: of one number each, or of a sequence by round.

    alpha (n_rounds,) is of t = 1..n_rounds, beta (n_rounds + 1,) begins with that of the first fit; both in [0, 1].
    """
    check_counts(0, n_rounds=n_rounds)
    shares = []
    for name, share, n in (("alpha", alpha, n_rounds), ("beta", beta, n_rounds + 1)):
        share = as_floats(name, share, None, "[0, 1]")
        shares.append(np.broadcast_to(as_floats(name, share, (n,) if share.ndim else ()), n))
    return list(zip([0.0, *shares[0]], shares[1], strict=True))


# --- parts of the closed forms -------------------------------------------------------------------------------------
def _read(designs: Designs, alpha: float, beta: float) -> np.ndarray:
    """(K, 2 d, d) rows whose Gram matrices are D_k, and A_k at alpha = 0: they keep what a Gram matrix would round."""
    check_range("[0, 1]", alpha=alpha, beta=beta)
    real, talk = designs.rows
    shared = np.sqrt((1 - alpha) * (1 - beta)) * real[-1]
    heard = np.sqrt(alpha / len(talk)) * talk
    common = np.linalg.qr(np.concatenate([shared, *heard]), mode="r")  # (d, d), the same for all
    return np.concatenate([np.sqrt((1 - alpha) * beta) * real[:-1], np.broadcast_to(common, talk.shape)], axis=1)


def _metric(metric: np.ndarray | None, n_entities: int, d: int) -> np.ndarray:
    if metric is None:
        return np.eye(d)
    metric = as_floats("metric", metric)
    return as_gram("metric", metric, (d, d) if metric.ndim < 3 else (n_entities, d, d))


def _truths(designs: Designs, truth: np.ndarray, private_truth: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(d,) and (K, d); private rows follow the public truth unless they have their own."""
    n_entities, d = designs.private.shape[:2]
    truth = as_floats("truth", truth, (d,))
    if private_truth is None:
        return truth, np.tile(truth, (n_entities, 1))
    return truth, as_floats("private_truth", private_truth, (n_entities, d))


# --- curves by round, in the metrics of an entity's own task and of the others' tasks -----------------------------
def round_curves(designs: Designs, alpha: Shares, beta: Shares, truth: np.ndarray, n_rounds: int) -> dict:
    """Closed forms by round: {loss_own, loss_others, disagreement}: (n_rounds + 1,), squared units of a label.

    Errors are means over the entities, in the metrics of `task_metrics`. alpha and beta are one number, or sequences
    by round as in `shares_by_round`.
    """
    (_, beta_0), *shares = shares_by_round(alpha, beta, n_rounds)
    rounds = {share: one_round(designs, *share) for share in dict.fromkeys(shares)}
    metrics, moments = task_metrics(designs), trajectory(first_fit(designs, beta_0, truth), map(rounds.get, shares))
    curves = {name: np.array([mse(m, truth, w).mean() for m in moments]) for name, w in metrics.items()}
    return curves | {"disagreement": np.array([disagreement(m) for m in moments])}


def round_draws(designs: Designs, alpha: Shares, beta: Shares, truth: np.ndarray, n_rounds: int, **drawn) -> dict:
    """The same three by `simulate` (n_runs, rng): {name: (n_runs, n_rounds + 1)}, one number per run."""
    metrics = task_metrics(designs)
    off = simulate(designs, alpha, beta, truth, n_rounds=n_rounds, **drawn) - truth  # (n_rounds + 1, n_runs, K, d)
    errors = {name: np.einsum("trki,kij,trkj->rt", off, w, off) / off.shape[2] for name, w in metrics.items()}
    one, other = np.triu_indices(off.shape[2], 1)
    apart = ((off[:, :, one] - off[:, :, other]) ** 2).sum(axis=-1).mean(axis=-1)
    return errors | {"disagreement": apart.T}


def efficiency_surface(designs: Designs, shares: Sequence[float]) -> np.ndarray:
    """(shares, shares) relative efficiency over alpha by beta; nan where the limit is biased or does not exist.

    Where `unbiased_limit` holds it depends on no truth; elsewhere it would.
    """
    shares = as_floats("shares", shares, (-1,), "[0, 1]")
    truth, values = np.zeros(len(designs.public)), np.full((len(shares), len(shares)), np.nan)
    first = [first_fit(designs, beta, truth) for beta in shares]
    for (i, alpha), (j, beta) in itertools.product(enumerate(shares), enumerate(shares)):
        if unbiased_limit(designs, alpha, beta):
            limit = fixed_point(first[j], one_round(designs, alpha, beta))
            values[i, j] = relative_efficiency(limit, designs, truth)[1]
    return values


def theory_change(n_entities: int, alpha: float, n_rounds: int, beta: float = 0.5) -> dict[str, float]:
    """What the linear counterpart expects of the losses: {loss_own, loss_others}, round n_rounds minus round 0.

    Mean squared errors of `separate_designs` with the truth (1, ..., 1) and noise 1. Finite rounds, so that alpha = 1
    has a value as well.
    """
    curves = round_curves(separate_designs(n_entities), alpha, beta, np.ones(n_entities + 1), n_rounds)
    losses = ("loss_own", "loss_others")
    return {name: round(float(curves[name][-1] - curves[name][0]), 9) for name in losses}  # equal cells tie exactly
