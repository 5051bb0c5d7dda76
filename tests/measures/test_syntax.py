"""Syntactic variety from a parser: by hand on trees of our own, and with spaCy where it is installed."""

from types import SimpleNamespace

import pytest

from symbiosis.measures.diversity import ngram_diversity
from symbiosis.measures.syntax import SyntaxMeasureError, dependency_depth, load_parser, pos_diversity


def word(pos, *children):
    return SimpleNamespace(pos_=pos, children=children)


def document(*roots):
    """A document of sentences, each given by its root."""

    def words(root):
        return [root, *(w for child in root.children for w in words(child))]

    class Document(list):
        @property
        def sents(self):
            return [SimpleNamespace(root=root) for root in roots]

    return Document(w for root in roots for w in words(root))


CHAIN = document(word("VERB", word("NOUN", word("ADJ", word("ADV")))))
FLAT = document(word("VERB", word("NOUN"), word("NOUN"), word("ADV")))


def test_depth_counts_the_edges_to_the_farthest_word():
    assert dependency_depth(["a"], lambda texts: [CHAIN]) == 3
    assert dependency_depth(["a"], lambda texts: [FLAT]) == 1
    both = document(word("VERB", word("NOUN")), word("INTJ"))
    assert dependency_depth(["a", "b"], lambda texts: [both, CHAIN]) == pytest.approx((1 + 0 + 3) / 3)
    assert dependency_depth([], lambda texts: []) != dependency_depth([], lambda texts: [])  # nan


def test_pos_diversity_sees_patterns_and_not_words():
    same = pos_diversity(["x", "y"], lambda texts: [CHAIN, CHAIN], n=2)
    assert same == pytest.approx(ngram_diversity(["VERB NOUN ADJ ADV"] * 2, 2)) == pytest.approx(0.5 + 0.5)
    assert pos_diversity(["x", "y"], lambda texts: [CHAIN, FLAT], n=2) > same


def test_a_missing_parser_is_one_sentence(monkeypatch):
    with pytest.raises(SyntaxMeasureError, match=r"pip install -e '\.\[syntax\]'|spaCy has no pipeline 'no_such'"):
        load_parser("no_such")


def test_a_real_pipeline_parses():
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    if not spacy.util.is_package("en_core_web_sm"):
        pytest.skip("the spaCy pipeline en_core_web_sm is not installed")
    parse = load_parser()
    assert dependency_depth(["The dog that chased the cat barked."], parse) > dependency_depth(["Dogs bark."], parse)
