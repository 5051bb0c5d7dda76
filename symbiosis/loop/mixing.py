"""How a generation's new rows meet real rows and earlier lessons: the regimes in which recursion is studied.

Row numbers and shares only (numpy), so that the same regimes serve every method.
"""

import numpy as np


def real_count(rows: int, real_share: float) -> int:
    """How many of a lesson's rows are real, the nearest whole number to real_share * rows."""
    if not 0 <= real_share <= 1:
        raise ValueError(f"real_share: {real_share} is not between 0 and 1")
    return round(real_share * rows)


def real_positions(rows: int, generation: int, available: int, *, fixed: bool) -> np.ndarray:
    """Which labelled real rows a generation takes: (rows,) positions in 0..available-1, starting over when used up.

    fixed: the same in every generation, MAD's fixed-real loop (augmentation with the latest synthetic rows). Else new
    ones, MAD's fresh-real loop. Alemohammad et al., arXiv 2307.01850.
    """
    if rows and not available:
        raise ValueError("real_share: there is no labelled real row; raise train_size or set real_share to 0")
    start = 0 if fixed else max(generation - 1, 0) * rows
    return (start + np.arange(rows)) % max(available, 1)


def kept_rows(sizes: list[int], mixing: str, rng: np.random.Generator) -> np.ndarray:
    """Which rows of all lessons so far, laid end to end, are taught now: positions in 0..sum(sizes)-1.

    replace:              the newest lesson alone (Shumailov et al., arXiv 2305.17493)
    accumulate:           all of them, so that the lesson grows (Gerstgrasser et al., arXiv 2404.01413)
    accumulate_subsample: as many as the newest has, drawn from all without replacement, each equally likely
                          (a fixed compute budget; Kazdan et al., arXiv 2410.16713)
    """
    total, newest = sum(sizes), sizes[-1]
    if mixing == "replace":
        return np.arange(total - newest, total)
    if mixing == "accumulate":
        return np.arange(total)
    if mixing == "accumulate_subsample":
        return np.sort(rng.permutation(total)[:newest])
    raise ValueError(f"mixing: {mixing!r} is not one of replace, accumulate, accumulate_subsample")


def held_rows(kinds: np.ndarray, shares: np.ndarray, rows: int) -> np.ndarray:
    """Positions of `rows` of the rows given such that kind k has round(rows * shares_k) of them: (rows,).

    kinds:  (m,) kind of each row, -1 for none; the first of a kind come first, and again in turn where they are few.
    shares: (K,) of the kinds, sums to 1. What a kind without any row would have goes to the others in proportion; where
            no row has a kind they are taken in turn, whatever they are.

    Quotas are rounded down, then one more to those that lost most. So diversity over kinds stays as it is set while at
    least one row of every kind is left, and nothing else of the rows is held.
    """
    there = np.bincount(kinds[kinds >= 0], minlength=len(shares)) > 0
    if not (shares * there).sum():
        return np.arange(rows) % len(kinds)
    wanted = rows * shares * there / (shares * there).sum()
    counts = np.floor(wanted + 1e-9).astype(int)
    counts[np.argsort(counts - wanted, kind="stable")[: rows - counts.sum()]] += 1
    return np.concatenate([np.resize(np.flatnonzero(kinds == k), counts[k]) for k in np.flatnonzero(counts)])


def weak_labels(truth: np.ndarray, accuracy: float, n_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Labels of a weak labeller: (n,), right with probability `accuracy`, else any other class, all equally likely.

    Spent on rejected rows only, a labeller far weaker than the model still lifts it. Amin et al., arXiv 2502.08924.
    """
    wrong = (truth + rng.integers(1, n_classes, len(truth))) % n_classes
    return np.where(rng.random(len(truth)) < accuracy, truth, wrong)
