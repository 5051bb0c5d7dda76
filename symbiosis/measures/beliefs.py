"""How a labeller believes: which labels it takes, how sure it is, and whether it is right as often as it says."""

import numpy as np

BINS = 10  # of the calibration error
ONE_SIDED = 0.9  # share of the texts that one class may take of a task in which it has at most BALANCED of them
BALANCED = 0.5


def label_counts(probs: np.ndarray) -> np.ndarray:
    """(C,) how many of the texts have each label as their likeliest one; probs (n, C)."""
    return np.bincount(probs.argmax(1), minlength=probs.shape[1])


def mean_entropy(probs: np.ndarray) -> float:
    """Mean of -sum_c p_c log p_c [nats], in [0, log C]; probs (n, C)."""
    return float(-(probs * np.log(np.maximum(probs, np.finfo(float).tiny))).sum(1).mean())


def calibration_curve(probs: np.ndarray, labels: np.ndarray) -> list[tuple[int, float, float]]:
    """(texts, mean confidence, share right) of each of BINS equal bins of confidence max_c p_c that is not empty."""
    confidence, right = probs.max(1), probs.argmax(1) == labels
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    own = [place == k for k in range(BINS)]
    return [(int(k.sum()), float(confidence[k].mean()), float(right[k].mean())) for k in own if k.any()]


def calibration_error(probs: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error, in [0, 1]: sum over bins of (share of texts) * |share right - mean confidence|.

    Naeini et al. 2015 (AAAI); Guo et al. 2017, arXiv 1706.04599.
    """
    return sum(n * abs(right - sure) for n, sure, right in calibration_curve(probs, labels)) / len(labels)


def one_sided(counts: np.ndarray, labels: np.ndarray) -> int | None:
    """The class that takes more than ONE_SIDED of the texts while at most BALANCED of the labels are its own.

    counts: (C,) of `label_counts`; labels: (n,) true ones. None where there is no such class.
    """
    c = int(counts.argmax())
    return c if counts[c] > ONE_SIDED * counts.sum() and (labels == c).mean() <= BALANCED else None
