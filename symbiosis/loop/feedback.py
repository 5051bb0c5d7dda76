"""What the Student finds hard in unlabeled text: one interface, several signals.

A signal is a function (state, texts, rng) -> (n,), larger is harder, registered under the name that `feedback:` gives.
"""

from collections.abc import Callable, Sequence

import numpy as np
from datasets import Dataset

from symbiosis.data.lesson import make_lesson
from symbiosis.loop.influence import Influence, gradient_norm
from symbiosis.loop.state import LoopState
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
    candidates = make_lesson(texts, labels, "real", 0, "label", [""] * len(texts))
    return -Influence(state.student, state.lesson, state.task.dev, int(rng.integers(2**31))).of(candidates)


@signal("random")
def random(state: LoopState, texts: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Uniform in [0, 1): the control that sees the same pool without asking the Student."""
    return rng.random(len(texts))


def hardest(state: LoopState, rng: np.random.Generator) -> Dataset:
    """The `hard_examples` hardest texts of a random `scored_share` of the pool by `feedback`, hardest first.

    At least twice `hard_examples` are scored where the pool holds so many, and at most half of the scored are chosen:
    what is hard must be harder than something. `skip_hardest_share` of them, from the top, are passed over, and so are
    texts that share more than `max_similarity` of their words with a harder one. Returns the pool's rows with a column
    `hardness`.
    """
    settings, pool = state.settings, state.task.pool
    n = min(len(pool), max(2 * settings.hard_examples, round(settings.scored_share * len(pool))))
    looked_at = pool.select(rng.permutation(len(pool))[:n])
    scores = SIGNALS[settings.feedback](state, looked_at["text"], rng)
    order = np.argsort(-scores, kind="stable")[round(settings.skip_hardest_share * n) :]
    chosen = apart(looked_at.select(order)["text"], hard_count(n, settings), settings.max_similarity)
    return looked_at.select(order[chosen]).add_column("hardness", scores[order[chosen]])


def hard_count(scored: int, settings: RunSettings) -> int:
    """How many of `scored` texts are called hard."""
    return max(1, min(settings.hard_examples, scored // 2))


def apart(texts: Sequence[str], n: int, max_similarity: float) -> list[int]:
    """Indices of the first n texts that share at most `max_similarity` of their words with each one chosen before.

        similarity(a, b) = |words of a and b| / |words of a or b|, in [0, 1] (Jaccard 1901)

    Where too few are apart, the rest is filled up in order, so that n come back if there are n.
    """
    if max_similarity == 1:
        return list(range(min(n, len(texts))))
    chosen, words = [], [set(text.lower().split()) for text in texts]
    for i, mine in enumerate(words):
        if len(chosen) < n and all(len(mine & words[j]) <= max_similarity * len(mine | words[j]) for j in chosen):
            chosen.append(i)
    rest = sorted(set(range(len(texts))) - set(chosen))
    return chosen + rest[: max(0, n - len(chosen))]
