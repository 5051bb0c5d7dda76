"""What K entities see: their Gram matrices, the settings of them that are shown, and the metrics of their tasks.

`many_models` says what becomes of entities that see this. Letters: K entities, d features.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import default_rng

from symbiosis.theory.checks import as_floats, as_gram, check_counts, check_range, gram_rows


@dataclass(frozen=True, eq=False)
class Designs:
    """What K entities see, as Gram matrices X'X, with the noise of its labels and the weight of its rows in the loss.

    public             (d, d) S_0, real rows that all entities share
    private            (K, d, d) S_k, real rows of each entity
    synthetic          (K, d, d) S~_j, rows on which each entity writes labels in a round
    noise              standard deviation of real labels, at least 0
    synthetic_noise    standard deviation of synthetic labels, at least 0
    public_weight      c_0, weight of a row in the loss, above 0: 1, or 1 over the rows of this set
    private_weights    (K,) c_k, or one for all
    synthetic_weights  (K,) c_j, or one for all

    Gram matrices, symmetric and positive semi-definite, may be of any rank, 0 included.
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
        d = len(as_floats("public", self.public, (-1, -1)))
        n_entities = len(as_floats("private", self.private, (-1, d, d)))
        check_counts(1, entities=n_entities, features=d)
        check_range("[0, inf)", noise=self.noise, synthetic_noise=self.synthetic_noise)
        for name, shape in {"public": (d, d), "private": (n_entities, d, d), "synthetic": (n_entities, d, d)}.items():
            object.__setattr__(self, name, as_gram(name, getattr(self, name), shape))
        each = (n_entities,)
        for name, shape in {"public_weight": (), "private_weights": each, "synthetic_weights": each}.items():
            weights = as_floats(name, getattr(self, name), None, "(0, inf)")
            weights = as_floats(name, weights, shape if weights.ndim else ())
            object.__setattr__(self, name, np.broadcast_to(weights, shape))

    @cached_property
    def real(self) -> tuple[np.ndarray, np.ndarray]:
        """Grams (K+1, d, d) and weights (K+1,) of the private rows and, last, of the public ones."""
        return np.concatenate([self.private, self.public[None]]), np.append(self.private_weights, self.public_weight)

    @cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(K+1, d, d) real and (K, d, d) synthetic rows with these Gram matrices, times the roots of their weights."""
        grams, weights = self.real
        roots = np.sqrt(weights)[:, None, None], np.sqrt(self.synthetic_weights)[:, None, None]
        return roots[0] * gram_rows(grams), roots[1] * gram_rows(self.synthetic)

    @classmethod
    def from_subspaces(
        cls, public: np.ndarray, private: np.ndarray, *, n_public: float, n_private: float, n_synthetic: float
    ) -> "Designs":
        """Entities that know one subspace each, and write half of their rows there and half in the public one.

            S_0 = n_public U_0 U_0',    S_k = n_private U_k U_k',    S~_k = n_synthetic / 2 (U_k U_k' + U_0 U_0')

        public is U_0 (d, r_0), private U_k (K, d, r), both with orthonormal columns (else ValueError); n_public,
        n_private, n_synthetic are sums of squared features along a column, rows if x'u is of variance 1.
        """
        check_range("[0, inf)", n_public=n_public, n_private=n_private, n_synthetic=n_synthetic)
        public = as_floats("public", public, (-1, -1))
        private = as_floats("private", private, (-1, len(public), -1))
        for name, columns in (("public", public), ("private", private)):
            if not np.allclose(columns.mT @ columns, np.eye(columns.shape[-1])):
                raise ValueError(f"{name}: columns are not orthonormal; take those of np.linalg.qr")
        shared, own = public @ public.T, private @ private.mT
        return cls(n_public * shared, n_private * own, n_synthetic / 2 * (own + shared))


def ring_designs(n_entities: int = 4, private: float = 10, public: float = 50, synthetic: float = 8) -> Designs:
    """K entities in the plane that know one direction u_k each, at the angle k pi / K, and a public one v between.

        S_k = a u_k u_k',   S_0 = b v v',   S~_k = s / 2 (u_k u_k' + v v')  for a, b, s,   v at the angle pi / (2 K)

    As it stands, relative efficiency is largest at alpha = beta = 0.5; the setting was chosen for that.
    """
    check_counts(1, n_entities=n_entities)
    check_range("[0, inf)", private=private, public=public, synthetic=synthetic)
    angles = np.append(np.arange(n_entities), 0.5) * np.pi / n_entities
    axes = np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, :, None]
    return Designs.from_subspaces(axes[-1], axes[:-1], n_public=public, n_private=private, n_synthetic=synthetic)


def subspace_designs(seed: int, private: float = 20, public: float = 40, synthetic: float = 10) -> Designs:
    """Four entities that know random subspaces of rank 3 in 8 dimensions, beside a public one of rank 4.

    S_k = a U_k U_k', S_0 = b U_0 U_0', s synthetic rows each: nobody identifies the truth alone (3 + 4 < 8).
    The sizes were chosen on other seeds than the 100..119 that are reported.
    """
    check_counts(0, seed=seed)
    check_range("[0, inf)", private=private, public=public, synthetic=synthetic)
    rng = default_rng(seed)
    own = np.array([np.linalg.qr(rng.standard_normal((8, 3)))[0] for _ in range(4)])
    shared = np.linalg.qr(rng.standard_normal((8, 4)))[0]
    return Designs.from_subspaces(shared, own, n_public=public, n_private=private, n_synthetic=synthetic)


def aligned_designs(n_entities: int = 4, private: float = 20, public: float = 10, synthetic: float = 5) -> Designs:
    """K directions with one owner each, and equal talk of all: S_k = a e_k e_k', S_0 = b I, S~_k = s I for a, b, s."""
    check_counts(1, n_entities=n_entities)
    check_range("[0, inf)", private=private, public=public, synthetic=synthetic)
    eye = np.eye(n_entities)
    return Designs(public * eye, private * eye[:, :, None] * eye[:, None, :], np.array([synthetic * eye] * n_entities))


def separate_designs(n_entities: int, rows: float = 20) -> Designs:
    """The linear counterpart of the experiment: K tasks that share nothing, and public rows that hold none of them.

    K + 1 orthogonal directions e_0..e_K, with n = rows in each data set, as every training set of the experiment has n:

        S_0 = n e_0 e_0',   S_k = n e_k e_k',   S~_k = n / 2 (e_k e_k' + e_0 e_0')
    """
    check_counts(1, n_entities=n_entities)
    check_range("(0, inf)", rows=rows)
    axes = np.eye(n_entities + 1)
    sizes = dict.fromkeys(["n_public", "n_private", "n_synthetic"], rows)
    return Designs.from_subspaces(axes[:, :1], axes[1:, :, None], **sizes)


def task_metrics(designs: Designs) -> dict[str, np.ndarray]:
    """Metrics of the mean squared error: (K, d, d) of each entity's own task, and the mean of the others' tasks.

        W_k = S_k / |S_k|  (largest eigenvalue 1),      mean_{j != k} W_j

    Raises ValueError for K = 1 and for an entity without private rows.
    """
    check_counts(2, entities=len(designs.private))
    largest = as_floats("largest eigenvalue of private", np.linalg.eigvalsh(designs.private)[:, -1], None, "(0, inf)")
    own = designs.private / largest[:, None, None]
    return {"loss_own": own, "loss_others": (own.sum(axis=0) - own) / (len(own) - 1)}
