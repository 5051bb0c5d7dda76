"""A false fact in one entity's private rows, among entities that train on each other's outputs: who repeats it?

Of the rows that entity k draws in a round, this share repeats the false answer, f, or the true one, t:

    f_k' = (1-alpha) beta told_k      + alpha sum_j s_j f_j       told_1 = 1: entity 1 alone was told so in private
    t_k' = (1-alpha) (1-beta) public  + alpha sum_j s_j t_j       public: how often public rows tell the truth

in units of the private rows that speak of the fact; s_j is the share of entity j among the written rows. An entity says
what it read as often as it read it. The frame is that of Vu, Reeves and Wenger, arXiv 2505.21677; the error is ours.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from symbiosis.theory.checks import as_distribution, check_counts, check_draws, check_range

SPEAKS = 0.1  # share of the private rows of entity 1 that speak of the fact
ROWS = 400  # drawn by an entity in a round


def spread(voices: Sequence[float], rounds: int, *, alpha: float = 0.5, beta: float = 0.5, public: float) -> np.ndarray:
    """Belief f / (f + t) of each entity after rounds 0..T: (T + 1, K), nan where nobody has told it anything.

        in the end, for alpha < 1:   sum_k s_k f_k = beta s_1,   sum_k s_k t_k = (1-beta) public

    So the private share, the voice of the liar and the public rows decide what is repeated in the end; alpha only how
    fast it comes, and how evenly it is spread. Without public truth all believe it, however small the liar.

    Args:
        voices: (K,) shares of the entities among the written rows, the liar's first; sum to 1.
        rounds: T; round 0 is before they read each other.
        alpha:  share of the rows of a round that the entities wrote.
        beta:   share of the real rows that is private.
        public: rows of public text that tell the truth, per row that tells the lie among as many private ones.
    """
    voices = _checked(voices, rounds, alpha, beta, public)
    said, told = np.zeros((rounds + 1, 2, len(voices))), np.zeros((2, len(voices)))
    told[0, 0], told[1] = beta, (1 - beta) * public
    said[0] = told
    for t in range(rounds):
        said[t + 1] = (1 - alpha) * told + alpha * (said[t] @ voices)[:, None]
    return _belief(said)


def simulate_spread(
    voices: Sequence[float], rounds: int, *, public: float, vote: bool = False, rng: Generator
) -> dict[str, np.ndarray]:
    """One chain of `spread` at alpha = beta = 0.5 with ROWS rows a round: belief (T + 1, K) and share (T + 1,).

    share: of the written rows that speak of the fact those that repeat the lie. vote: of what was written, only answers
    that at least half of the entities hold (belief of 0.5 and more, or of 0.5 and less) are read.
    """
    voices, half = _checked(voices, rounds, 0.5, 0.5, public), ROWS // 2
    check_draws(rng)
    k, said, chain = len(voices), np.zeros((2, len(voices))), []
    for t in range(rounds + 1):
        written, real = (half, half) if t else (0, ROWS)
        private = np.zeros(k, dtype=int)
        private[0] = rng.binomial(real // 2, SPEAKS)
        read = np.stack([private, rng.binomial(real // 2, SPEAKS * public, size=k)])
        held = _holders(said) >= k / 2 if vote else np.ones(2, dtype=bool)
        mean = np.clip(said @ voices, 0, 1)  # of all that is written
        for answer in np.flatnonzero(held):
            read[answer] += rng.binomial(written, mean[answer], size=k)
        said = read / ROWS
        chain.append(said)
    chain = np.array(chain)
    return {"belief": _belief(chain), "share": _belief((chain @ voices)[..., None])[:, 0]}


def _holders(said: np.ndarray) -> np.ndarray:
    """(2,) entities that hold the false answer, and the true one; who has read nothing holds neither."""
    return np.array([(said[0] >= said[1]) & (said[0] > 0), (said[1] >= said[0]) & (said[1] > 0)]).sum(axis=1)


def _belief(said: np.ndarray) -> np.ndarray:
    """f / (f + t) over the axis before the last."""
    false, both = said[..., 0, :], said.sum(axis=-2)
    return np.divide(false, both, out=np.full(both.shape, np.nan), where=both > 0)


def _checked(voices: Sequence[float], rounds: int, alpha: float, beta: float, public: float) -> np.ndarray:
    check_counts(0, rounds=rounds)
    check_range("[0, 1]", alpha=alpha, beta=beta)
    check_range("[0, inf)", public=public)
    return as_distribution(np.asarray(voices))
