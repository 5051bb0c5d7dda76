"""What the Student finds hard in unlabeled text: one interface, several signals.

A signal is a function (state, texts, rng) -> (n,), larger is harder, registered under the name that `feedback:` gives.
"""

from collections.abc import Callable, Sequence

import numpy as np
from datasets import Dataset
from scipy.spatial.distance import cdist

from symbiosis.data.lesson import make_lesson
from symbiosis.loop.influence import Influence, gradient_norm
from symbiosis.loop.state import LoopState
from symbiosis.models.hidden_states import hidden_states
from symbiosis.settings import RunSettings

Signal = Callable[[LoopState, Sequence[str], np.random.Generator], np.ndarray]
SIGNALS: dict[str, Signal] = {}


def signal(name: str) -> Callable[[Signal], Signal]:
    """Register a signal under the name that `feedback:` gives it."""

    def register(function: Signal) -> Signal:
        SIGNALS[name] = function
        return function

    return register


@signal("lm_loss")
def lm_loss(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Mean negative log-likelihood of the bare text under the Student [nats/token], >= 0: the Symbiosis paper's signal.

    High for what the Student has never read, and for junk.
    """
    return state.student.text_losses(texts)


@signal("entropy")
def label_entropy(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Of the Student's label, -sum_c p_c log p_c [nats], in [0, log C]. Lewis and Gale 1994, cmp-lg/9407020."""
    log_p = state.student.label_log_probs(texts)
    return -(np.exp(log_p) * log_p).sum(1)


@signal("margin")
def margin(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """1 - (p_first - p_second) of the Student's two likeliest labels, in [0, 1]. Scheffer et al. 2001."""
    p = np.sort(np.exp(state.student.label_log_probs(texts)), axis=1)
    return 1 - (p[:, -1] - p[:, -2])


@signal("teacher_kl")
def teacher_kl(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """KL(Generator || Student) of the labels, sum_c q_c (log q_c - log p_c) [nats], >= 0.

    High where the Generator is sure of a label the Student does not see. This project's choice of signal.
    """
    log_q = state.generator.label_log_probs(texts)
    state.counts["read"] += len(texts)
    return (np.exp(log_q) * (log_q - state.student.label_log_probs(texts))).sum(1)


@signal("gradient_norm")
def head_gradient(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Length of the label loss's gradient, see `influence.gradient_norm`."""
    return gradient_norm(state.student, texts)


@signal("influence")
def dev_gain(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """First-order fall of the Student's dev loss per unit weight of the text, with the Generator's label [nats].

    The negative of `Influence.of`: what would help most if it were taught comes first.
    """
    labels = state.generator.label_log_probs(texts).argmax(1)
    state.counts["read"] += len(texts)
    candidates = make_lesson(texts, labels, "real", 0, "label")
    return -Influence(state.student, state.lesson, state.task.dev, int(rng.integers(2**31))).of(candidates)


@signal("random")
def random(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Uniform in [0, 1): the control that sees the same pool without asking the Student."""
    return rng.random(len(texts))


@signal("half_random")
def half_random(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Whole numbers <= 0 by which, from the top, texts come hardest by `lm_loss`, at random, hardest, at random, ...

    However many are taken, half of them are hard and half a random sample. The control for "hard texts alone are no
    sample of what the test asks for".
    """
    hard, drawn = (ranks(values) for values in (lm_loss(state, texts, rng), rng.random(len(texts))))
    return -np.minimum(2 * hard, 2 * drawn + 1).astype(float)


@signal("k_center")
def k_center(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Distance of a text to the nearest centre when its turn comes, >= 0: the texts that cover the pool come first.

        next = argmax_i min_(j in centres) |x_i - x_j|,   x the Student's mean hidden state of a text

    Greedy k-center, a choice that asks no label and no loss (Sener and Savarese 2018, arXiv 1708.00489). Centres to
    begin with are the pool texts of earlier lessons or, before there are any, the mean of the texts (ours).
    """
    pool, settings = state.task.pool, state.settings
    before = [text for text, source in zip(pool["text"], pool["source_id"], strict=True) if source in state.taught]
    x = hidden_states(state.student.lm, [*texts, *before], settings)
    x, centres = x[: len(texts)], x[len(texts) :]
    return cover_distances(x, centres if len(centres) else x.mean(0, keepdims=True))


def cover_distances(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n,) distance of each row of x (n, d) to the centres (k, d) and to all rows chosen before it, farthest first."""
    nearest, when_chosen = cdist(x, centres).min(1), np.zeros(len(x))
    left = np.ones(len(x), dtype=bool)
    for _ in x:
        chosen = np.where(left, nearest, -1).argmax()
        when_chosen[chosen], left[chosen] = nearest[chosen], False
        nearest = np.minimum(nearest, np.linalg.norm(x - x[chosen], axis=1))
    return when_chosen


def ranks(values: np.ndarray) -> np.ndarray:
    """(n,) 0 for the largest value, n - 1 for the smallest."""
    return np.argsort(np.argsort(-values, kind="stable"))


def hardest(state: LoopState, rng: np.random.Generator) -> Dataset:
    """The `hard_examples` hardest texts of a random `scored_share` of the pool by `feedback`, hardest first.

    At least twice `hard_examples` are scored where the pool holds so many, and at most half of the scored are chosen:
    what is hard must be harder than something. `skip_hardest_share` of them, from the top, are passed over, and so are
    texts that share more than `max_similarity` of their words with a harder one. Without `choose_again` texts of
    earlier lessons are left out as long as there are as many others, and at most half of the whole pool is chosen.
    Returns the pool's rows with a column `hardness`.
    """
    settings, pool = state.settings, not_yet_taught(state)
    n = min(len(pool), max(2 * settings.hard_examples, round(settings.scored_share * len(pool))))
    most = hard_count(n if settings.choose_again else len(state.task.pool), settings)
    looked_at = pool.select(rng.permutation(len(pool))[:n])
    state.counts["scored"] += len(looked_at)
    scores = SIGNALS[settings.feedback](state, looked_at["text"], rng)
    order = np.argsort(-scores, kind="stable")[round(settings.skip_hardest_share * n) :]
    chosen = dissimilar(looked_at.select(order)["text"], most, settings.max_similarity)
    return looked_at.select(order[chosen]).add_column("hardness", scores[order[chosen]])


def not_yet_taught(state: LoopState) -> Dataset:
    """The pool, without `choose_again` less what earlier lessons took from it; all of it where too little is left."""
    pool, settings = state.task.pool, state.settings
    if settings.choose_again:
        return pool
    left = [i for i, source in enumerate(pool["source_id"]) if source not in state.taught]
    return pool.select(left) if len(left) >= hard_count(len(pool), settings) else pool


def hard_count(scored: int, settings: RunSettings) -> int:
    """How many of `scored` texts are called hard."""
    return max(1, min(settings.hard_examples, scored // 2))


def dissimilar(texts: Sequence[str], n: int, max_similarity: float) -> list[int]:
    """Indices of the first n texts that share at most `max_similarity` of their words with each one chosen before.

        similarity(a, b) = |words of a and b| / |words of a or b|, in [0, 1] (Jaccard 1901)

    Where too few are dissimilar, the rest is filled up in order, so that n come back if there are n.
    """
    if max_similarity == 1:
        return list(range(min(n, len(texts))))
    chosen, words = [], [set(text.lower().split()) for text in texts]
    for i, mine in enumerate(words):
        if len(chosen) < n and all(len(mine & words[j]) <= max_similarity * len(mine | words[j]) for j in chosen):
            chosen.append(i)
    rest = sorted(set(range(len(texts))) - set(chosen))
    return chosen + rest[: max(0, n - len(chosen))]
