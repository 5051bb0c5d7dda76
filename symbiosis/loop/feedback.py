"""What the Student finds hard in unlabeled text: one interface, several measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from symbiosis.data.lesson import make_lesson
from symbiosis.loop.influence import gradient_norm, influence
from symbiosis.models.loading import document_rows
from symbiosis.models.scoring import generator_beliefs, student_beliefs, text_losses
from symbiosis.settings import RunSettings


@dataclass
class Measured:
    """Who is asked, and what may be asked for: the Student, the Generator's labels, the dev split, the last lesson."""

    student: Any
    student_tokenizer: Any
    generator: Any
    generator_tokenizer: Any
    label_names: Sequence[str]
    dev: Any  # labelled; only `influence` looks at it
    lesson: Any  # what the Student was taught last; only `influence` looks at it
    settings: RunSettings
    rng: np.random.Generator


def lm_loss(by: Measured, texts: Sequence[str]) -> np.ndarray:
    """Mean negative log-likelihood of the bare text under the Student [nats/token], >= 0: the Symbiosis paper's signal.

    High for what the Student has never read, and for junk.
    """
    tokenizer = by.student_tokenizer
    rows = document_rows(tokenizer, texts, by.settings.max_length)
    return text_losses(by.student, tokenizer, rows, [1] * len(rows), by.settings)


def entropy(by: Measured, texts: Sequence[str]) -> np.ndarray:
    """Of the Student's label belief, -sum_c p_c log p_c [nats], in [0, log C]. Lewis and Gale 1994, cmp-lg/9407020."""
    log_p = _student(by, texts)
    return -(np.exp(log_p) * log_p).sum(1)


def margin(by: Measured, texts: Sequence[str]) -> np.ndarray:
    """1 - (p_first - p_second) of the Student's two likeliest labels, in [0, 1]. Scheffer et al. 2001."""
    p = np.sort(np.exp(_student(by, texts)), axis=1)
    return 1 - (p[:, -1] - p[:, -2])


def teacher_kl(by: Measured, texts: Sequence[str]) -> np.ndarray:
    """KL(Generator || Student) of the label beliefs, sum_c q_c (log q_c - log p_c) [nats], >= 0.

    High where the Generator is sure of a label the Student does not see. This project's choice of signal.
    """
    log_q = _generator(by, texts)
    return (np.exp(log_q) * (log_q - _student(by, texts))).sum(1)


def head_gradient(by: Measured, texts: Sequence[str]) -> np.ndarray:
    """Length of the label loss's gradient, see `influence.gradient_norm`."""
    return gradient_norm(by.student, by.student_tokenizer, texts, by.label_names, by.settings)


def dev_gain(by: Measured, texts: Sequence[str]) -> np.ndarray:
    """First-order fall of the Student's dev loss per unit weight of the text, with the Generator's label [nats].

    The negative of `influence.influence`: what would help most if it were taught comes first.
    """
    labels = _generator(by, texts).argmax(1)
    candidates = make_lesson(texts, labels, "real", 0, "label", [""] * len(texts))
    student, seed = (by.student, by.student_tokenizer), int(by.rng.integers(2**31))
    return -influence(*student, candidates, by.lesson, by.dev, by.label_names, by.settings, seed=seed)


def random(by: Measured, texts: Sequence[str]) -> np.ndarray:
    """Uniform in [0, 1): the control that sees the same pool without asking the Student."""
    return by.rng.random(len(texts))


MEASURES = {
    "lm_loss": lm_loss, "entropy": entropy, "margin": margin, "teacher_kl": teacher_kl,
    "gradient_norm": head_gradient, "influence": dev_gain, "random": random,
}  # fmt: skip


def hardness(by: Measured, texts: Sequence[str]) -> np.ndarray:
    """How hard each unlabeled text is by `settings.feedback`: (n,), larger is harder; see the measure's docstring."""
    return MEASURES[by.settings.feedback](by, texts)


def find_hard(by: Measured, pool):
    """Step C: the `hard_examples` hardest texts of a random `scored_share` of the pool, hardest first.

    At least twice `hard_examples` are scored where the pool holds so many, and at most half of the scored are chosen:
    what is hard must be harder than something. `hardest_skipped` of them, from the top, are passed over, and so are
    texts that share more than `max_similarity` of their words with a harder one. Returns the pool's rows with a column
    `hardness`.
    """
    settings, rng = by.settings, by.rng
    n = min(len(pool), max(2 * settings.hard_examples, round(settings.scored_share * len(pool))))
    looked_at = pool.select(rng.permutation(len(pool))[:n])
    scores = hardness(by, looked_at["text"])
    order = np.argsort(-scores, kind="stable")[round(settings.hardest_skipped * n) :]
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


def _student(by: Measured, texts: Sequence[str]) -> np.ndarray:
    return student_beliefs(by.student, by.student_tokenizer, texts, by.label_names, by.settings)


def _generator(by: Measured, texts: Sequence[str]) -> np.ndarray:
    return generator_beliefs(by.generator, by.generator_tokenizer, texts, by.label_names, by.settings)
