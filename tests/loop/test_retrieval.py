import numpy as np
import pytest

from symbiosis.loop.retrieval import most_alike, tfidf


def test_similarity_and_order_by_hand():
    texts = ["A b.", "a c", "b, C", "d d"]
    rows = tfidf(texts).toarray()
    half = np.sqrt(0.5)  # a, b, c stand in two texts of four each, so both words of a text weigh log 2
    assert rows == pytest.approx(np.array([[half, half, 0, 0], [half, 0, half, 0], [0, half, half, 0], [0, 0, 0, 1]]))
    assert (rows @ rows.T)[0] == pytest.approx([1, 0.5, 0.5, 0])
    assert most_alike(texts, [0, 0, 0, 0]) == [1, 2, 3, 1]  # each once before any comes again, never itself
    assert most_alike(texts, [0, 0, 0], taken=[1]) == [2, 3, 1]
    assert most_alike(texts, [2, 0]) == [0, 1] and most_alike(["e", "e"], [1, 0]) == [0, 1]  # words of all tell nothing
    rare = ["x y", "x z", "y w", "x v", "x u"]  # y stands in fewer texts than x, so sharing it says more
    assert most_alike(rare, [0]) == [2]
