"""Syntactic variety from a parser, where one is installed: part-of-speech patterns and the depth of the parse.

Optional: `pip install -e '.[syntax]'` and a spaCy pipeline (`python -m spacy download en_core_web_sm`, where there is
a network). What needs no parser is `diversity.template_diversity` and `measures.complexity`.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from symbiosis.errors import SymbiosisError
from symbiosis.measures.diversity import ngram_diversity

PIPELINE = "en_core_web_sm"


class SyntaxMeasureError(SymbiosisError):
    """A parser that is not installed, with the remedy."""


def load_parser(pipeline: str = PIPELINE) -> Callable[[Iterable[str]], Iterable]:
    """texts -> parsed documents, of a spaCy pipeline by name or folder.

    Raises SyntaxMeasureError where spaCy or the pipeline is not installed.
    """
    try:
        import spacy

        return spacy.load(pipeline).pipe
    except ImportError:
        raise SyntaxMeasureError("spaCy is not installed; pip install -e '.[syntax]'") from None
    except OSError:
        raise SyntaxMeasureError(
            f"spaCy has no pipeline {pipeline!r}; python -m spacy download {pipeline}, or name the folder of one"
        ) from None


def pos_diversity(texts: Sequence[str], parse: Callable[[Iterable[str]], Iterable], n: int = 4) -> float:
    """Share of distinct part-of-speech n-grams, summed over orders 1..n: `diversity.ngram_diversity` of the tags.

    parse: see `load_parser`. Low where sentences are built alike, whatever their words. Falls with the size of the
    corpus: compare at equal numbers of words. nan for no texts. After Shaib et al. 2024, arXiv 2403.00553.
    """
    return ngram_diversity([" ".join(token.pos_ for token in document) for document in parse(texts)], n)


def dependency_depth(texts: Sequence[str], parse: Callable[[Iterable[str]], Iterable]) -> float:
    """Mean over sentences of the depth of the dependency tree: edges from the root to the farthest word; nan for none.

    A chain of n words has depth n - 1, a root with n - 1 children 1, a single word 0.
    """
    depths = [_depth(sentence.root) for document in parse(texts) for sentence in document.sents]
    return float(np.mean(depths)) if depths else float("nan")


def _depth(word) -> int:
    return max((1 + _depth(child) for child in word.children), default=0)
