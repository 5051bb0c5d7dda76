"""Measures of a corpus that need nothing but its texts."""

from collections.abc import Sequence


def distinct_n(texts: Sequence[str], n: int = 2) -> float:
    """Share of the word n-grams of a corpus that are different ones.

        distinct_n = |set of n-grams| / number of n-grams,   in (0, 1]; nan where no text has n words

    Falls with the size of the corpus: compare at equal numbers of words only. Li et al. 2016, arXiv 1510.03055.
    """
    grams = [g for text in texts for g in zip(*(text.split()[i:] for i in range(n)), strict=False)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def unique_share(texts: Sequence[str]) -> float:
    """Share of texts that are different ones, in (0, 1]; nan for no texts."""
    return len(set(texts)) / len(texts) if len(texts) else float("nan")
