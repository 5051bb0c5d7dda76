"""K entities that fit linear models to one another's labels: moments in closed form, beside their simulation.

Real labels are y = x'theta* + noise, on public rows that all entities share and private rows of each. In every round
t >= 1 entity j writes labels x'theta[t-1, j] + noise on rows of its own, and each entity k fits the same pool of these,
its private and the public rows by least squares (minimum norm where a direction is seen by none of them), with shares

    (1 - alpha) beta  private,     (1 - alpha) (1 - beta)  public,     alpha / K  each of the K synthetic sets.

Real data stay; of the synthetic ones only the newest round is used. Features are fixed, or given round by round; only
labels are random, the real ones drawn once, the synthetic ones anew in every round. With Gram matrices S = X'X and the
loss weight c of a row (1 if losses are summed over rows, 1/n if averaged over the n rows of one data set):

    A_k = beta c_k S_k + (1 - beta) c_0 S_0,        D_k = (1 - alpha) A_k + alpha / K sum_j c_j S~_j,
    theta_t = P theta_0 + Q theta_{t-1} + xi_t,     P_kk = (1 - alpha) D_k^+ A_k,     Q_kj = alpha / K D_k^+ c_j S~_j.

Letters: K entities, d features, r rank. Vectors of all entities are (K, d), or (K*d,) entity by entity.
K = 1 is the single model that listens to itself; everything but `disagreement` is defined there.

The setting: Vu, Reeves and Wenger 2025, arXiv:2505.21677. The conventions above and the formulas below are worked out
here. The loss has to add up over the K synthetic sets; the mean over the merged pool would divide by K a second time.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import block_diag, solve_discrete_lyapunov

RANK_TOLERANCE = 1e-12  # eigenvalues below this share of the largest are rounding error of a rank-deficient Gram matrix
RADIUS_TOLERANCE = 1e-9  # a spectral radius within this of 1 is 1 up to rounding: alpha = 1 gives 1 - 2e-16 as well
LOSSES = SUM, MEAN = "sum", "mean"
POOLS = SHARED, INDEPENDENT = "shared", "independent"


class NoFixedPoint(ValueError):
    """The spectral radius of Q is 1 or more: there is no asymptotic value to report."""


@dataclass(frozen=True, eq=False)
class Designs:
    """What K entities see, as Gram matrices X'X, with the noise of its labels and the weight of its rows in the loss.

    public             (d, d) S_0, real rows that all entities share
    private            (K, d, d) S_k, real rows of each entity
    synthetic          (K, d, d) S~_j, rows on which each entity writes labels in a round
    noise              standard deviation of real labels, at least 0
    synthetic_noise    standard deviation of synthetic labels, at least 0
    public_weight      c_0, weight of a row in the loss, above 0: 1 ("sum") or 1 over the rows of this set ("mean")
    private_weights    (K,) c_k, or one for all
    synthetic_weights  (K,) c_j, or one for all

    Gram matrices may be of any rank, 0 included. Raises ValueError if one is of the wrong shape, not symmetric or not
    positive semi-definite, and for a weight or a noise out of range.
    """

    public: np.ndarray
    private: np.ndarray
    synthetic: np.ndarray
    noise: float = 1.0
    synthetic_noise: float = 1.0
    public_weight: float = 1.0
    private_weights: np.ndarray | float = 1.0
    synthetic_weights: np.ndarray | float = 1.0

    def __post_init__(self):
        n_entities, d = len(self.private), len(self.public)
        each = (n_entities,)
        for name, shape in {"public": (d, d), "private": (*each, d, d), "synthetic": (*each, d, d)}.items():
            object.__setattr__(self, name, _checked_gram(name, getattr(self, name), shape))
        for name, shape in {"public_weight": (), "private_weights": each, "synthetic_weights": each}.items():
            weights = np.asarray(getattr(self, name), dtype=float)
            if weights.shape not in ((), shape) or not np.all((weights > 0) & (weights < np.inf)):
                raise ValueError(f"{name}: {weights} is not a number above 0, or one for each entity")
            object.__setattr__(self, name, np.broadcast_to(weights, shape))
        for name in ("noise", "synthetic_noise"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: {getattr(self, name)} is no standard deviation; give a number of at least 0")

    @classmethod
    def from_rows(
        cls, public: np.ndarray, private: list[np.ndarray], synthetic: list[np.ndarray], loss: str = SUM, **noise
    ) -> "Designs":
        """Designs of given feature rows: (n_0, d) public, K times (n_k, d) private, K times (n_j, d) synthetic.

        loss: "sum" weighs every row 1; "mean" weighs it 1 over the rows of its own set (one entity's set, not the
        merged pool). noise, synthetic_noise: as above. A set may have no rows, (0, d), under "sum".

        Raises ValueError for another loss and for an empty set under "mean".
        """
        if loss not in LOSSES:
            raise ValueError(f"loss: {loss!r} is not one of {', '.join(LOSSES)}")
        grams = public.T @ public, _grams(private), _grams(synthetic)
        if loss == SUM:
            return cls(*grams, **noise)
        if not all(len(x) for x in (public, *private, *synthetic)):
            raise ValueError('loss: the mean over an empty set is undefined; use "sum" or give it rows')
        private_weights, synthetic_weights = ([1 / len(x) for x in rows] for rows in (private, synthetic))
        weights = {"private_weights": private_weights, "synthetic_weights": synthetic_weights}
        return cls(*grams, public_weight=1 / len(public), **weights, **noise)

    @classmethod
    def from_subspaces(
        cls, public: np.ndarray, private: np.ndarray, *, n_public: float, n_private: float, n_synthetic: float, **noise
    ) -> "Designs":
        """Entities that know one subspace each, and write half of their rows there and half in the public one.

            S_0 = n_public U_0 U_0',    S_k = n_private U_k U_k',    S~_k = n_synthetic / 2 (U_k U_k' + U_0 U_0')

        Args:
            public:  (d, r_0) orthonormal columns U_0.
            private: (K, d, r) orthonormal columns U_k of each entity.
            n_public, n_private, n_synthetic: sum of squared features along each column, rows if x'u is of variance 1.
        """
        shared, own = public @ public.T, private @ private.transpose(0, 2, 1)
        return cls(n_public * shared, n_private * own, n_synthetic / 2 * (own + shared), **noise)


def random_subspaces(
    n_entities: int, dimension: int, private_rank: int, public_rank: int, *, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Uniformly random orthonormal bases: public (d, public_rank) and private (K, d, private_rank).

    Orthogonalised Gaussian columns. Raises ValueError for ranks outside 1..dimension.
    """
    if not (1 <= private_rank <= dimension and 1 <= public_rank <= dimension):
        raise ValueError(f"rank: private {private_rank} and public {public_rank} have to lie in 1..{dimension}")
    private = [np.linalg.qr(rng.standard_normal((dimension, private_rank)))[0] for _ in range(n_entities)]
    return np.linalg.qr(rng.standard_normal((dimension, public_rank)))[0], np.array(private)


class Round(NamedTuple):
    """One round of all entities, theta_t = P theta_0 + Q theta_{t-1} + xi with Q = hear @ talk.

    P      (K*d, K*d) what each keeps of its own first fit, block diagonal
    hear   (K*d, d) alpha / K D_k^+, how each takes in what the pool says
    talk   (d, K*d) c_j S~_j, what each puts into the pool: estimates enter it only as talk @ theta
    Omega  (K*d, K*d) covariance of xi
    """

    P: np.ndarray
    hear: np.ndarray
    talk: np.ndarray
    Omega: np.ndarray

    @property
    def Q(self) -> np.ndarray:
        """(K*d, K*d) what each takes over from the last estimate of each; of rank d at most."""
        return self.hear @ self.talk


class Moments(NamedTuple):
    """Mean (K, d) and covariance (K, d, K, d) of all entities' estimates."""

    mean: np.ndarray
    covariance: np.ndarray


def one_round(designs: Designs, alpha: float, beta: float, pools: str = SHARED) -> Round:
    """P, Q and the noise of one round.

        P_kk = (1 - alpha) D_k^+ A_k,     Q_kj = alpha / K D_k^+ c_j S~_j,
        Omega_kl = (alpha / K)^2 D_k^+ N D_l^+,     N = synthetic_noise^2 sum_j c_j^2 S~_j

    Args:
        alpha: synthetic share of the loss, in [0, 1].
        beta:  private share of its real part, in [0, 1].
        pools: "shared": all entities fit the same pool of labels; "independent": labels of the same law are drawn for
               each entity, and Omega_kl = 0 for k != l.

    Where D_k is invertible the rows are stochastic: P_kk + sum_j Q_kj = I.

    Raises ValueError for shares outside [0, 1] and for other pools.
    """
    _check_shares(alpha, beta)
    _check_pools(pools)
    n_entities, d = designs.private.shape[:2]
    real = _real_grams(designs, beta)
    talk = designs.synthetic_weights[:, None, None] * designs.synthetic
    inverse = _pinv((1 - alpha) * real + alpha / n_entities * talk.sum(axis=0))
    hear = alpha / n_entities * inverse
    noise = designs.synthetic_noise**2 * np.tensordot(designs.synthetic_weights**2, designs.synthetic, axes=1)
    stacked = hear.reshape(n_entities * d, d)
    omega = stacked @ noise @ stacked.T if pools == SHARED else block_diag(*(hear @ noise @ hear))
    return Round(block_diag(*((1 - alpha) * inverse @ real)), stacked, np.concatenate(talk, axis=1), omega)


def first_fit(designs: Designs, beta: float, truth: np.ndarray, private_truth: np.ndarray | None = None) -> Moments:
    """Moments of the fits to real data alone, before anyone listens (t = 0).

        E theta_0k = A_k^+ (beta c_k S_k theta_k + (1 - beta) c_0 S_0 theta*)
        Cov_kl = noise^2 A_k^+ (1[k = l] beta^2 c_k^2 S_k + (1 - beta)^2 c_0^2 S_0) A_l^+

    Args:
        beta:          private share of the loss, in [0, 1].
        truth:         (d,) theta*, parameters behind the public labels.
        private_truth: (K, d) theta_k, parameters behind private labels; None: theta* for all, as in the paper.

    A direction in which entity k has no real data is estimated as 0 (minimum norm), without variance.
    """
    _check_shares(0.0, beta)
    inverse = _pinv(_real_grams(designs, beta))
    own = beta * designs.private_weights[:, None, None] * designs.private
    shared = (1 - beta) * designs.public_weight * designs.public
    truth, private_truth = _truths(designs, truth, private_truth)
    mean = np.einsum("kij,kj->ki", inverse, np.einsum("kij,kj->ki", own, private_truth) + shared @ truth)
    of_public = (1 - beta) * designs.public_weight * np.einsum("kia,ab,lbj->kilj", inverse, shared, inverse)
    of_private = beta * designs.private_weights[:, None, None] * (inverse @ own @ inverse)
    entities = np.arange(len(own))
    covariance = of_public
    covariance[entities, :, entities, :] += of_private
    return Moments(mean, designs.noise**2 * covariance)


def trajectory(first: Moments, rounds: Iterable[Round]) -> list[Moments]:
    """Moments after 0, 1, 2, ... rounds, for rounds that may differ; defined for any spectral radius.

        H_0 = I,  H_t = P_t + Q_t H_{t-1},      Gamma_0 = 0,  Gamma_t = Q_t Gamma_{t-1} Q_t' + Omega_t,
        E theta_t = H_t E theta_0,              Cov theta_t = H_t Cov(theta_0) H_t' + Gamma_t

    `[round] * t` repeats one round t times.
    """
    moments, mean_map, noise = [first], np.eye(first.mean.size), np.zeros((first.mean.size, first.mean.size))
    for one in rounds:
        mean_map = one.P + one.hear @ (one.talk @ mean_map)
        noise = one.hear @ (one.talk @ noise @ one.talk.T) @ one.hear.T + one.Omega
        moments.append(_moments(first, mean_map, noise))
    return moments


def spectral_radius(one: Round) -> float:
    """rho(Q), at least 0; the limit exists below 1, and is then approached as rho(Q)^t.

    Computed from the d x d matrix talk @ hear, whose non-zero eigenvalues are those of Q. With one common Gram matrix
    of synthetic rows rho <= 1; with matrices of each entity's own it can exceed 1 at any alpha in (0, 1): entities that
    talk most about what they have no data on drive one another away from the truth.
    """
    return float(np.abs(np.linalg.eigvals(one.talk @ one.hear)).max())


def fixed_point(first: Moments, one: Round) -> Moments:
    """Moments in the limit of many equal rounds.

        H = (I - Q)^-1 P,     Gamma = Q Gamma Q' + Omega,     Cov = H Cov(theta_0) H' + Gamma

    Solved in d dimensions instead of K*d, as Q = hear talk: H = P + hear (I - M)^-1 talk P and
    Gamma = hear U hear' + Omega with M = talk hear and U = M U M' + talk Omega talk'.

    Where all D_k are invertible the mean is the common truth for every entity, also for those whose own real data do
    not identify it.

    Raises NoFixedPoint (a ValueError) where rho(Q) >= 1, alpha = 1 included: use `trajectory` there.
    """
    radius = spectral_radius(one)
    if not _contracts(radius):
        raise NoFixedPoint(
            f"rho(Q) = {radius:.7g} is not below 1: no asymptotic value exists; use trajectory for a given round, "
            "an alpha below 1, or synthetic rows where the entities that write them have real data"
        )
    loop = one.talk @ one.hear  # (d, d)
    mean_map = one.P + one.hear @ np.linalg.solve(np.eye(len(loop)) - loop, one.talk @ one.P)
    heard = solve_discrete_lyapunov(loop, one.talk @ one.Omega @ one.talk.T)
    return _moments(first, mean_map, one.hear @ heard @ one.hear.T + one.Omega)


def mse(moments: Moments, truth: np.ndarray, metric: np.ndarray | None = None) -> np.ndarray:
    """Mean squared error of each entity: (K,), at least 0, in squared units of a label if W is a Gram matrix per row.

        MSE_k = tr W (V_kk + b_k b_k'),     b_k = E theta_k - theta*

    Args:
        truth:  (d,) theta*, or (K, d) one for each entity.
        metric: W, (d, d) or one per entity (K, d, d); None: I, the error of the parameters. S_k / n_k is the error on
                entity k's own task, the average of the others' matrices its transfer.
    """
    bias = moments.mean - truth
    spread = np.einsum("kikj->kij", moments.covariance) + bias[:, :, None] * bias[:, None, :]
    return np.einsum("...ij,...ij->...", _metric(metric, bias.shape[1]), spread)


def ideal_mse(designs: Designs, metric: np.ndarray | None = None) -> np.ndarray:
    """Error of ordinary least squares on all real data at once: a number, or (K,) for a metric (K, d, d).

        MSE_id = noise^2 tr W (S_0 + sum_k S_k)^-1

    No unbiased linear estimator is better (Gauss-Markov), whatever the weights in the loss. For one common truth.

    Raises ValueError where all real data together leave a direction unseen.
    """
    pooled = designs.public + designs.private.sum(axis=0)
    if np.linalg.matrix_rank(pooled, rtol=RANK_TOLERANCE, hermitian=True) < len(pooled):
        raise ValueError("designs: all real data together leave a direction unseen; no ideal estimator exists")
    return designs.noise**2 * np.einsum("...ij,ij->...", _metric(metric, len(pooled)), np.linalg.inv(pooled))


def relative_efficiency(
    moments: Moments, designs: Designs, truth: np.ndarray, metric: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Of each entity, (K,), and of all together; positive, 1 is as good as all real data at one place.

        RE_k = MSE_id / MSE_k,     RE = mean_k MSE_id / mean_k MSE_k     (a ratio of means, not the mean of RE_k)

    At most 1 where estimates are unbiased. Biased ones (finite t, or an unseen direction) can exceed 1 for a small
    truth; they are not clipped. Arguments as in `mse`; raises as `ideal_mse`.
    """
    errors = mse(moments, truth, metric)
    ideal = np.broadcast_to(ideal_mse(designs, metric), errors.shape)
    return ideal / errors, float(ideal.mean() / errors.mean())


def disagreement(moments: Moments) -> float:
    """Delta, how far the entities are apart, at least 0; homogenisation is its fall over rounds.

        Delta = mean_{k < l} E |theta_k - theta_l|^2

    In squared units of a parameter. Raises ValueError for K = 1, which has no pair.
    """
    if len(moments.mean) < 2:
        raise ValueError("disagreement: one entity has nobody to disagree with; needs K of at least 2")
    second = np.einsum("kili->kl", moments.covariance) + moments.mean @ moments.mean.T  # E theta_k'theta_l
    one, other = np.triu_indices(len(second), 1)
    return float((second[one, one] + second[other, other] - 2 * second[one, other]).mean())


def surface(
    designs: Designs,
    alphas: Sequence[float],
    betas: Sequence[float],
    truth: np.ndarray,
    measure: Callable[[Moments], float],
    pools: str = SHARED,
) -> tuple[np.ndarray, np.ndarray]:
    """A measure of the limit over a grid, and rho(Q) there: two arrays (alphas, betas).

    Args:
        measure: one number from the asymptotic moments, as lambda m: relative_efficiency(m, designs, truth)[1].

    The measure is nan where rho(Q) >= 1 and no limit exists. Other arguments as in `one_round` and `first_fit`.
    """
    values, radii = np.full((2, len(alphas), len(betas)), np.nan)
    for j, beta in enumerate(betas):
        first = first_fit(designs, beta, truth)
        for i, alpha in enumerate(alphas):
            one = one_round(designs, alpha, beta, pools)
            radii[i, j] = spectral_radius(one)
            if _contracts(radii[i, j]):
                values[i, j] = measure(fixed_point(first, one))
    return values, radii


class OwnerMSE(NamedTuple):
    """Errors along one direction: of the entity with private rows there, of each of the others, and the ideal one."""

    owner: float
    others: float
    ideal: float
    radius: float  # rho(Q)


def owner_mse(
    n_entities: int, private: float, public: float, synthetic: float, alpha: float, beta: float, noise: float = 1.0
) -> OwnerMSE:
    """The limit in closed form if every direction has one owner, public rows and equal talk of all.

        p_o = (1 - alpha) (beta a + (1 - beta) b),   p_n = (1 - alpha) (1 - beta) b,   w = alpha s / (p + alpha s),
        rho = (w_o + (K - 1) w_n) / K,   q = beta a / (beta a + (1 - beta) b),   U = (1 - w_o) q / (K (1 - rho)),
        u_o = (1 - w_o) q + w_o U,       u_n = w_n U,
        MSE = noise^2 (u^2 / a + (1 - u)^2 / b + w^2 / (K s (1 - rho^2))),       MSE_id = noise^2 / (a + b)

    Args:
        private, public, synthetic: a, b, s, Gram of the direction: the owner's, the common one, each entity's talk;
            all above 0.
        alpha, beta: shares in [0, 1].

    Shared pool, loss "sum". For K directions with an owner each, an entity's error is owner + (K - 1) others.

    Raises NoFixedPoint at alpha = 1; ValueError for Gram values of 0 or less, shares outside [0, 1], and alpha = 0 with
    beta = 1, where the others have no data at all.
    """
    _check_shares(alpha, beta)
    if n_entities < 1 or not min(private, public, synthetic) > 0:
        raise ValueError(f"owner_mse: needs K >= 1, got {n_entities}, and Gram values above 0")
    if alpha == 1:
        raise NoFixedPoint("rho(Q) = 1 at alpha = 1: no asymptotic value exists; use an alpha below 1")
    if alpha == 0 and beta == 1:
        raise ValueError("owner_mse: at alpha = 0 and beta = 1 the others have no data; raise alpha or lower beta")
    real = (1 - alpha) * np.array([beta * private + (1 - beta) * public, (1 - beta) * public])  # (2,) owner, others
    heard = alpha * synthetic / (real + alpha * synthetic)
    radius = (heard[0] + (n_entities - 1) * heard[1]) / n_entities
    of_private = beta * private / (beta * private + (1 - beta) * public)  # share of the owner's first fit
    said = (1 - heard[0]) * of_private / (n_entities * (1 - radius))  # share of private labels in what the pool says
    u = heard * said + np.array([(1 - heard[0]) * of_private, 0])
    fresh = heard**2 / (n_entities * synthetic * (1 - radius**2))
    owner, others = noise**2 * (u**2 / private + (1 - u) ** 2 / public + fresh)
    return OwnerMSE(float(owner), float(others), noise**2 / (private + public), float(radius))


def simulate(
    designs: Designs,
    alpha: float,
    beta: float,
    truth: np.ndarray,
    *,
    n_rounds: int,
    n_runs: int,
    rng: np.random.Generator,
    private_truth: np.ndarray | None = None,
    pools: str = SHARED,
    draw: Callable[[np.random.Generator], Sequence[np.ndarray]] | None = None,
) -> np.ndarray:
    """Estimates by drawn labels and explicit weighted least squares: (n_rounds + 1, n_runs, K, d).

    Knows none of the formulas above: a Monte Carlo check of them, and the way to fresh random features in every round,
    for which the mean Gram matrix is only an approximation.

    Args:
        truth, private_truth: as in `first_fit`, (d,) and (K, d), or one per run: (n_runs, d) and (n_runs, K, d).
        draw: K arrays of feature rows for one round, each (n, d) or one per run (n_runs, n, d); None: in every round
              rows whose Gram matrices are designs.synthetic. Weights are the designs' in both cases.

    Labels are Gaussian. alpha, beta, pools and what they raise as in `one_round`.
    """
    _check_shares(alpha, beta)
    _check_pools(pools)
    rows = [_rows(gram) for gram in designs.synthetic]
    draw = draw or (lambda _: rows)
    real = _real_data(designs, beta, *_truths(designs, truth, private_truth), n_runs, rng)
    n_pools = len(real) if pools == INDEPENDENT else 1
    estimates = [np.stack([_least_squares(own) for own in real], axis=1)]
    for _ in range(n_rounds):
        written = [_written(designs, estimates[-1], draw(rng), rng) for _ in range(n_pools)]
        heard = [_weighted(written[k % n_pools], alpha / len(real)) for k in range(len(real))]
        mixed = [_weighted(own, 1 - alpha) + pool for own, pool in zip(real, heard, strict=True)]
        estimates.append(np.stack([_least_squares(parts) for parts in mixed], axis=1))
    return np.array(estimates)


# --- parts of the simulation: a part is (rows (..., n, d), labels (n_runs, n), weight of a row) --------------------
def _real_data(designs, beta, truth, private_truth, n_runs, rng):
    """For each entity its private and the public part; the labels of the public one are the same for all."""
    n_entities, d = designs.private.shape[:2]
    x = _rows(designs.public)
    y = _labels(x, np.broadcast_to(truth, (n_runs, d)), designs.noise, rng)
    public = (x, y, (1 - beta) * designs.public_weight)
    truths = np.broadcast_to(private_truth, (n_runs, n_entities, d))
    rows = [_rows(gram) for gram in designs.private]
    labels = [_labels(x, truths[:, k], designs.noise, rng) for k, x in enumerate(rows)]
    return [[(rows[k], labels[k], beta * designs.private_weights[k]), public] for k in range(n_entities)]


def _written(designs, theta, rows, rng):
    """The pool of one round: what each entity with parameters theta[:, k] writes on its rows."""
    labels = [_labels(x, theta[:, k], designs.synthetic_noise, rng) for k, x in enumerate(rows)]
    return list(zip(rows, labels, designs.synthetic_weights, strict=True))


def _labels(x, theta, noise, rng):
    """(n_runs, n) labels of rows x under parameters (n_runs, d)."""
    return rng.normal((x @ theta[:, :, None])[:, :, 0], noise)


def _weighted(parts, share):
    return [(x, y, share * weight) for x, y, weight in parts]


def _least_squares(parts):
    """(n_runs, d) minimum-norm weighted least squares."""
    runs = np.broadcast_shapes(*(x.shape[:-2] for x, _, _ in parts))
    x = np.concatenate([np.broadcast_to(np.sqrt(w) * x, runs + x.shape[-2:]) for x, _, w in parts], axis=-2)
    y = np.concatenate([np.sqrt(w) * y for _, y, w in parts], axis=-1)
    return (np.linalg.pinv(x, rtol=np.sqrt(RANK_TOLERANCE)) @ y[:, :, None])[:, :, 0]


def _rows(gram):
    """(d, d) rows with this Gram matrix: all that least squares sees of the features."""
    values, vectors = np.linalg.eigh(gram)
    return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T


# --- parts of the closed forms -------------------------------------------------------------------------------------
def _real_grams(designs, beta):
    """(K, d, d) A_k = beta c_k S_k + (1 - beta) c_0 S_0."""
    own = designs.private_weights[:, None, None] * designs.private
    return beta * own + (1 - beta) * designs.public_weight * designs.public


def _pinv(grams):
    return np.linalg.pinv(grams, rtol=RANK_TOLERANCE, hermitian=True)


def _moments(first, mean_map, noise):
    mean = mean_map @ first.mean.ravel()
    covariance = mean_map @ first.covariance.reshape(mean_map.shape) @ mean_map.T + noise
    return Moments(mean.reshape(first.mean.shape), covariance.reshape(first.covariance.shape))


def _metric(metric, d):
    return np.eye(d) if metric is None else np.asarray(metric)


def _truths(designs, truth, private_truth):
    """(..., d) and (..., K, d); private rows follow the public truth unless they have their own."""
    truth = np.asarray(truth, dtype=float)
    if truth.shape[-1:] != designs.public.shape[:1]:
        raise ValueError(f"truth: shape {truth.shape} does not end in the {len(designs.public)} features")
    if private_truth is None:
        return truth, np.broadcast_to(truth[..., None, :], (*truth.shape[:-1], *designs.private.shape[:2]))
    private_truth = np.asarray(private_truth, dtype=float)
    if private_truth.shape[-2:] != designs.private.shape[:2]:
        raise ValueError(f"private_truth: shape {private_truth.shape} does not end in {designs.private.shape[:2]}")
    return truth, private_truth


def _contracts(radius):
    return radius < 1 - RADIUS_TOLERANCE


def _grams(rows):
    return np.array([x.T @ x for x in rows])


def _checked_gram(name, gram, shape):
    gram = np.asarray(gram, dtype=float)
    if gram.shape != shape or not gram.size:
        raise ValueError(f"{name}: Gram matrices of shape {gram.shape}, expected {shape} with at least one entity")
    largest = np.abs(gram).max()
    if not np.isfinite(largest) or not np.allclose(gram, gram.swapaxes(-1, -2), rtol=0, atol=1e-9 * largest):
        raise ValueError(f"{name}: not finite and symmetric; give Gram matrices X.T @ X")
    if np.linalg.eigvalsh(gram).min() < -1e-9 * largest:
        raise ValueError(f"{name}: has a negative eigenvalue; give Gram matrices X.T @ X")
    return gram


def _check_shares(alpha, beta):
    for name, share in (("alpha", alpha), ("beta", beta)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name}: {share} is not a share in [0, 1]")


def _check_pools(pools):
    if pools not in POOLS:
        raise ValueError(f"pools: {pools!r} is not one of {', '.join(POOLS)}")
