"""Which texts of a pool are most like some of them, by their words: what a loop that retrieves teaches."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import csr_array


def tfidf(texts: Sequence[str]) -> csr_array:
    """(n, V) word counts weighted by how rare a word is, rows of length 1, or 0 where no word tells the text apart.

    w_t = tf_t * log(n / df_t)      tf: how often word t is in the text; df: how many of the n texts have it
    """
    counts = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    df = Counter(word for own in counts for word in own)
    column = {word: j for j, word in enumerate(sorted(df))}
    found = [
        (i, column[word], n * np.log(len(texts) / df[word])) for i, own in enumerate(counts) for word, n in own.items()
    ]
    row, col, weight = zip(*found, strict=True) if found else ((), (), ())
    weights = csr_array((np.array(weight, float), (row, col)), shape=(len(texts), len(column)))
    lengths = np.sqrt(weights.multiply(weights).sum(axis=1))
    return csr_array(weights.multiply(1 / np.where(lengths > 0, lengths, 1)[:, None]))


def most_alike(texts: Sequence[str], asked: Sequence[int], taken: Iterable[int] = ()) -> list[int]:
    """For every place in `asked`, in turn, that of the most similar other text, by the cosine of `tfidf`.

    No text comes twice, and none of the `taken` comes, while there are others; of equally similar ones the first.
    """
    rows, places = tfidf(texts), np.arange(len(texts))
    unique, which = np.unique(np.asarray(asked, dtype=int), return_inverse=True)
    similar = (rows[unique] @ rows.T).toarray()
    free, found = np.isin(places, list(taken), invert=True), []
    for own, k in zip(asked, which, strict=True):
        if not (free & (places != own)).any():
            free[:] = True
        found.append(int(np.where(free & (places != own), similar[k], -1).argmax()))
        free[found[-1]] = False
    return found
