"""A Gaussian mixture fitted to its own samples: what a recursion loses first where the truth is a density in the plane.

The source has round modes of equal width on a grid; what their shares are, and which of them are rare, is given. It is
measured as a recursion of language models is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import special

from symbiosis.theory.checks import as_distribution, check_counts, check_draws, check_range

APART, SPREAD = 2.0, 0.4  # of neighbours on the grid, and the standard deviation of a mode
INSIDE = 0.95  # share of a mode's own points that count as true to it
POINTS = 300  # of a generation, as a lesson has rows


@dataclass(frozen=True)
class Mixture:
    """Shares (K,), means (K, 2) and variances (K,) of round Gaussians in the plane."""

    shares: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    def log_joint(self, x: np.ndarray) -> np.ndarray:
        """(n, K) log of share times density [nats] at the points x (n, 2)."""
        squares = ((x[:, None] - self.means) ** 2).sum(-1)
        with np.errstate(divide="ignore"):  # a mode without share: -inf
            return np.log(self.shares) - np.log(2 * np.pi * self.variances) - squares / (2 * self.variances)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return special.logsumexp(self.log_joint(x), axis=1)

    def sample(self, n: int, rng: Generator, kept: float = 1.0) -> np.ndarray:
        """(n, 2) points: by the model's own density the likeliest share `kept` of n / kept draws, as a nucleus is."""
        k = rng.choice(len(self.shares), size=round(n / kept), p=self.shares)
        x = self.means[k] + np.sqrt(self.variances[k])[:, None] * rng.standard_normal((len(k), 2))
        return x[np.sort(np.argsort(-self.log_density(x), kind="stable")[:n])] if kept < 1 else x

    def fit(self, x: np.ndarray, steps: int = 30) -> "Mixture":
        """EM from this model on points (n, 2); a mode that no point belongs to keeps its place and loses its share.

            r_ik ~ share_k N(x_i; mean_k, variance_k),   n_k = sum_i r_ik,   share_k = n_k / n
            mean_k = sum_i r_ik x_i / n_k,   variance_k = sum_i r_ik |x_i - mean_k|^2 / (2 n_k), at least SPREAD^2/100

        Dempster, Laird and Rubin 1977, Journal of the Royal Statistical Society B 39:1.
        """
        model = self
        for _ in range(steps):
            weights = special.softmax(model.log_joint(x), axis=1)
            mass = weights.sum(axis=0)
            there, means, variances = mass > 1e-8, model.means.copy(), model.variances.copy()
            means[there] = (weights.T @ x)[there] / mass[there, None]
            squares = (weights * ((x[:, None] - means) ** 2).sum(-1)).sum(axis=0)
            variances[there] = np.maximum(squares[there] / (2 * mass[there]), SPREAD**2 / 100)
            shares = np.where(there, mass, 0)
            model = Mixture(shares / shares.sum(), means, variances)
        return model


@dataclass(frozen=True)
class Source:
    """The truth, and which of its modes are rare (K,)."""

    truth: Mixture
    tail: np.ndarray

    @classmethod
    def make(cls, shares: np.ndarray, tail: np.ndarray, rng: Generator) -> "Source":
        """The source of a seed, which decides what mode stands where on a grid that is nearly a square.

        shares, tail: (K,) share of each mode, sums to 1, and whether it is rare; some are, some are not.
        """
        check_draws(rng)
        shares, k = as_distribution(shares), len(shares)
        columns = int(np.ceil(np.sqrt(k)))
        places = np.stack(np.divmod(rng.permutation(k), columns), axis=1)
        truth = Mixture(shares, APART * (places - places.mean(axis=0)), np.full(k, SPREAD**2))
        return cls(truth, np.asarray(tail, dtype=bool))

    def measures(self, x: np.ndarray) -> dict[str, float]:
        """What the points (n, 2) of a generation are like, all in [0, 1].

        tail_mass:     share of the points whose likeliest true mode is rare
        tail_coverage: share of the rare modes with at least one point where INSIDE of the mode's own points lie
        head_coverage: that of the other modes
        precision:     share of the points that lie so, over INSIDE, at most 1: few rare points but true ones are a loss
                       of diversity and none of fidelity (Sajjadi et al., arXiv 1806.00035; reduced here)
        """
        mode = self.truth.log_joint(x).argmax(axis=1)
        squares = ((x - self.truth.means[mode]) ** 2).sum(axis=1)
        inside = squares <= -2 * np.log(1 - INSIDE) * self.truth.variances[mode]
        seen = np.bincount(mode[inside], minlength=len(self.tail)) > 0
        return {
            "tail_mass": float(self.tail[mode].mean()),
            "tail_coverage": float(seen[self.tail].mean()),
            "head_coverage": float(seen[~self.tail].mean()),
            "precision": min(1.0, float(inside.mean()) / INSIDE),
        }


def simulate_mixture(
    source: Source, generations: int, *, kept: float = 1.0, real_share: float = 0.0, rng: Generator
) -> list[dict[str, float]]:
    """`measures` of the POINTS of generations 1..G of one chain that is fitted to real points, sampled, fitted again.

    Args:
        source:      the truth; the model begins there and goes on from fit to fit.
        generations: G, at least 1.
        kept:        likeliest share of its samples that the model shows, in (0, 1].
        real_share:  share of fresh real points beside them, which are measured, too.

    Without cut and real points the modes are counted as types are in `next_token.types_alive`, but for EM's errors.
    """
    check_counts(1, generations=generations)
    check_range("(0, 1]", kept=kept)
    check_range("[0, 1]", real_share=real_share)
    check_draws(rng)
    n_real, truth = round(real_share * POINTS), source.truth
    model, rows = truth.fit(truth.sample(POINTS, rng)), []
    for _ in range(generations):
        x = np.vstack([model.sample(POINTS - n_real, rng, kept), truth.sample(n_real, rng)])
        rows.append(source.measures(x))
        model = model.fit(x)
    return rows
