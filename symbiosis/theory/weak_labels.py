"""Weak labels where a filter rejects an answer, beside the filter alone."""

import numpy as np
from numpy.random import Generator
from scipy.stats import binom

from symbiosis.theory.checks import as_floats, check_counts, check_draws, check_range


def weak_label_accuracy(
    start: np.ndarray, generations: int, *, labeller: float, false_accept: float, false_reject: float
) -> np.ndarray:
    """Chance of a right answer per prompt when answers a noisy filter rejects are answered by a weak labeller instead.

        c' = c (1-d) + b (c d + (1-c)(1-g)),   so   c_t = c* + (c_0 - c*) r^t
        r = 1 - d (1-b) - (1-g) b,   c* = (1-g) b / (1 - r);   with d = 0: 1 - c_t = (1 - c_0)(1 - (1-g) b)^t

    The learner memorises: its chance is the share of right answers in what it was given. A filter that knows nothing,
    g = 1 - d, hands a random share d to the labeller: c_t = b + (c_0 - b) (1-d)^t ends at the labeller's own quality.

    Args:
        start:        (prompts,) c_0 in [0, 1].
        generations:  G, at least 0.
        labeller:     b, chance that a weak label is right.
        false_accept: g, chance that the filter accepts a wrong answer.
        false_reject: d, chance that it rejects a right one.

    Returns (G + 1, prompts) in [0, 1].

    The mechanism: Amin et al., arXiv 2502.08924; this reduction is this project's.
    """
    check_range("[0, 1]", labeller=labeller)
    c, t = _checked(start, generations, false_accept, false_reject)
    pull = (1 - false_accept) * labeller
    rate = pull + false_reject * (1 - labeller)
    end = pull / rate if rate else 0.0  # at rate 0 nothing moves
    return end + (c - end) * (1 - rate) ** t


def filter_only_accuracy(
    start: np.ndarray, generations: int, *, false_accept: float, false_reject: float
) -> np.ndarray:
    """The same without a labeller: rejected answers are dropped, and prompts never answered right stay so.

        c' = c (1-d) / (c (1-d) + (1-c) g),   so   c_t = c_0 / (c_0 + (1 - c_0) q^t),   q = g / (1-d)

    Arguments, result, errors and source as in weak_label_accuracy; false_reject below 1, else nothing right is kept.
    """
    check_range("[0, 1)", false_reject=false_reject)
    c, t = _checked(start, generations, false_accept, false_reject)
    odds = (false_accept / (1 - false_reject)) ** t
    return np.where(c > 0, c / np.where(c > 0, c + (1 - c) * odds, 1.0), 0.0)


def vote_accuracy(labeller: np.ndarray, votes: int) -> np.ndarray:
    """Chance that most of `votes` independent labels of texts that a Student cannot tell apart are right.

        P(X > m/2) + P(X = m/2) / 2,   X ~ Binomial(m, b);   b at m = 1, and for many votes 1 where b > 1/2, 0 below

    So a Student that pools the labels of like texts ends above its labeller where that is right more often than not,
    and below it elsewhere; one that memorises (m = 1) ends where the labeller is. All wrong labels are taken for the
    same one, the worst case.

    Args:
        labeller: (...) b in [0, 1], chance that a label is right, by kind of text.
        votes:    m, at least 1.

    Returns (...) in [0, 1]. Condorcet 1785; that like texts vote is this project's reading.
    """
    check_counts(1, votes=votes)
    b = as_floats("labeller", labeller, None, "[0, 1]")
    return binom.sf(votes // 2, votes, b) + (0.0 if votes % 2 else binom.pmf(votes // 2, votes, b) / 2)


def simulate_weak_labels(
    start: np.ndarray,
    generations: int,
    *,
    labeller: float | None,
    false_accept: float,
    false_reject: float,
    answers: int = 100,
    repeats: int,
    rng: Generator,
) -> np.ndarray:
    """(R, G + 1, prompts) draws for weak_label_accuracy, and for filter_only_accuracy where the labeller is None.

    `answers` are given per prompt and round; filter_only_accuracy holds for many of them. The rest as there.
    """
    if labeller is None:
        check_range("[0, 1)", false_reject=false_reject)
    else:
        check_range("[0, 1]", labeller=labeller)
    check_counts(1, answers=answers)
    check_draws(rng, repeats=repeats)
    start, _ = _checked(start, generations, false_accept, false_reject)
    rounds = [np.tile(start, (repeats, 1))]
    for _ in range(generations):
        answered = rng.binomial(answers, rounds[-1])
        right = rng.binomial(answered, 1 - false_reject)
        kept = right + rng.binomial(answers - answered, false_accept)
        if labeller is None:
            rounds.append(np.where(kept > 0, right / np.maximum(kept, 1), rounds[-1]))  # nothing kept, nothing learned
        else:
            rounds.append((right + rng.binomial(answers - kept, labeller)) / answers)
    return np.stack(rounds, axis=1)


def _checked(start: np.ndarray, generations: int, false_accept: float, false_reject: float) -> tuple:
    """(prompts,) c_0 and (G + 1, 1) generations."""
    check_counts(0, generations=generations)
    check_range("[0, 1]", false_accept=false_accept, false_reject=false_reject)
    start = as_floats("start", start, (-1,), "[0, 1]")
    check_counts(1, prompts=len(start))
    return start, np.arange(generations + 1.0)[:, None]
