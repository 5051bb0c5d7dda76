"""Weak labels where a filter rejects, beside the filter alone and labels given at random."""

import numpy as np

from symbiosis.theory.checks import check_counts, check_shares


def weak_label_accuracy(
    start: np.ndarray, generations: int, *, labeller: float, false_accept: float, false_reject: float
) -> np.ndarray:
    """Chance of a right answer per prompt when answers a noisy filter rejects are answered by a weak labeller instead.

        c' = c (1-d) + b (c d + (1-c)(1-g)),   so   c_t = c* + (c_0 - c*) r^t
        r = 1 - d (1-b) - (1-g) b,   c* = (1-g) b / (1 - r);   with d = 0: 1 - c_t = (1 - c_0)(1 - (1-g) b)^t

    The learner memorises: its chance is the share of right answers in what it was given.

    Args:
        start:        (prompts,) c_0 in [0, 1].
        generations:  G, at least 0.
        labeller:      b, chance that a weak label is right.
        false_accept: g, chance that the filter accepts a wrong answer.
        false_reject: d, chance that it rejects a right one.

    Returns (G + 1, prompts) in [0, 1]. Raises ValueError for chances outside [0, 1].

    The mechanism: Amin et al., arXiv 2502.08924; this reduction is this project's.
    """
    c = _check_accuracy(start, generations, labeller=labeller, false_accept=false_accept, false_reject=false_reject)
    pull = (1 - false_accept) * labeller
    rate = pull + false_reject * (1 - labeller)
    end = pull / rate if rate else 0.0  # at rate 0 nothing moves
    return end + (c - end) * (1 - rate) ** np.arange(generations + 1)[:, None]


def filter_only_accuracy(
    start: np.ndarray, generations: int, *, false_accept: float, false_reject: float
) -> np.ndarray:
    """The same without a labeller: rejected answers are dropped, and prompts never answered right stay so.

        c' = c (1-d) / (c (1-d) + (1-c) g),   so   c_t = c_0 / (c_0 + (1 - c_0) q^t),   q = g / (1-d)

    Arguments, result, errors and source as in weak_label_accuracy; false_reject below 1, else nothing right is kept.
    """
    c = _check_accuracy(start, generations, false_accept=false_accept, false_reject=false_reject)
    if false_reject == 1:
        raise ValueError("false_reject: at 1 nothing right is kept; give a chance below 1")
    odds = (false_accept / (1 - false_reject)) ** np.arange(generations + 1.0)[:, None]
    return np.where(c > 0, c / np.where(c > 0, c + (1 - c) * odds, 1.0), 0.0)


def random_label_accuracy(start: np.ndarray, generations: int, *, labeller: float, share: float) -> np.ndarray:
    """The same without a filter: a random share of the answers is replaced by weak labels; ends at their quality.

        c_t = b + (c_0 - b) (1 - share)^t

    Arguments, result, errors and source as in weak_label_accuracy; `share` in [0, 1].
    """
    c = _check_accuracy(start, generations, labeller=labeller, share=share)
    return labeller + (c - labeller) * (1 - share) ** np.arange(generations + 1)[:, None]


def simulate_weak_labels(
    start: np.ndarray,
    generations: int,
    *,
    labeller: float,
    false_accept: float,
    false_reject: float,
    answers: int = 100,
    repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(R, G + 1, prompts) draws for weak_label_accuracy, `answers` per prompt and round; the rest as there."""
    c = _check_accuracy(start, generations, labeller=labeller, false_accept=false_accept, false_reject=false_reject)
    check_counts(1, answers=answers, repeats=repeats)

    def learn(c):
        kept_right, kept_wrong = _filtered(c, answers, false_accept, false_reject, rng)
        weak = rng.binomial(answers - kept_right - kept_wrong, labeller)
        return (kept_right + weak) / answers

    return _rounds(c, generations, repeats, learn)


def simulate_filter_only(
    start: np.ndarray,
    generations: int,
    *,
    false_accept: float,
    false_reject: float,
    answers: int = 10_000,
    repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(R, G + 1, prompts) draws for filter_only_accuracy, which holds for many `answers`; the rest as there."""
    c = _check_accuracy(start, generations, false_accept=false_accept, false_reject=false_reject)
    check_counts(1, answers=answers, repeats=repeats)

    def learn(c):
        right, wrong = _filtered(c, answers, false_accept, false_reject, rng)
        return np.where(right + wrong > 0, right / np.maximum(right + wrong, 1), c)  # nothing kept, nothing learned

    return _rounds(c, generations, repeats, learn)


def simulate_random_labels(
    start: np.ndarray,
    generations: int,
    *,
    labeller: float,
    share: float,
    answers: int = 100,
    repeats: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(R, G + 1, prompts) draws for random_label_accuracy, `answers` per prompt and round; the rest as there."""
    c = _check_accuracy(start, generations, labeller=labeller, share=share)
    check_counts(1, answers=answers, repeats=repeats)

    def learn(c):
        right = rng.binomial(answers, c)
        lost, replaced_wrong = rng.binomial(right, share), rng.binomial(answers - right, share)
        return (right - lost + rng.binomial(lost + replaced_wrong, labeller)) / answers

    return _rounds(c, generations, repeats, learn)


def _filtered(c: np.ndarray, answers: int, false_accept: float, false_reject: float, rng) -> tuple:
    """Right and wrong answers that the filter lets through."""
    right = rng.binomial(answers, c)
    return rng.binomial(right, 1 - false_reject), rng.binomial(answers - right, false_accept)


def _rounds(c: np.ndarray, generations: int, repeats: int, learn) -> np.ndarray:
    rounds = [np.tile(c, (repeats, 1))]
    for _ in range(generations):
        rounds.append(learn(rounds[-1]))
    return np.stack(rounds, axis=1)


def _check_accuracy(start: np.ndarray, generations: int, **shares: float) -> np.ndarray:
    check_counts(0, generations=generations)
    check_shares(start=start, **shares)
    return np.atleast_1d(np.asarray(start, dtype=float))
