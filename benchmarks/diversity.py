"""Diversity beside the usual libraries: self-BLEU of 5,000 texts against nltk and sacrebleu, Vendi against the kernel.

    python benchmarks/diversity.py --texts 5000

The libraries compare each text with all others and would need hours: they score `--subset` texts of the same corpus,
against all others, and their rate counts those. `difference` is between the value of symbiosis and the peer's: of
self-BLEU over a corpus of 40 texts, of Vendi over all. nltk and sacrebleu are left out where they are not installed.
"""

import logging
import warnings
from collections.abc import Callable, Sequence

import common
import numpy as np

from symbiosis.measures import diversity
from symbiosis.models import loading

TABLE = "diversity.csv"
EQUAL_TEXTS = 40
DIMENSIONS = 384  # of an embedding: MiniLM's
BLEU_GOAL, VENDI_GOAL = 10_000.0, 100.0


# --- self-BLEU -----------------------------------------------------------------------------------------------------
def nltk_bleu(texts: Sequence[str], some: Sequence[int]) -> float:
    """Mean sentence BLEU-4 of the texts `some` against all others, without smoothing."""
    from nltk.translate.bleu_score import sentence_bleu

    words = [text.split() for text in texts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every text without a common 4-gram
        return float(np.mean([sentence_bleu(words[:i] + words[i + 1 :], words[i]) for i in some]))


def sacrebleu_bleu(texts: Sequence[str], some: Sequence[int]) -> float:
    """The same by sacrebleu, whose tokenizer is turned off, on its scale of 0 to 1."""
    from sacrebleu.metrics import BLEU

    logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it advises against what is compared
    bleu = BLEU(smooth_method="none", effective_order=False, tokenize="none")
    others = lambda i: [*texts[:i], *texts[i + 1 :]]  # noqa: E731
    return float(np.mean([bleu.sentence_score(texts[i], others(i)).score / 100 for i in some]))


PEERS = {"nltk": nltk_bleu, "sacrebleu": sacrebleu_bleu}


def self_bleu_rows(corpus: list[str], subset: int, repeats: int) -> list[dict]:
    """Ours on the whole corpus, each library on a part of it: rates, ratios, and the largest difference."""
    peers = {name: score for name, score in PEERS.items() if common.installed(name)}
    some = np.linspace(0, len(corpus) - 1, subset).astype(int).tolist()
    ways: dict[str, Callable] = {name: lambda score=score: lambda: score(corpus, some) for name, score in peers.items()}
    ways["symbiosis"] = lambda: lambda: diversity.self_bleu(corpus)
    seconds = common.interleaved(ways, repeats, "cpu")
    done = {name: subset for name in peers} | {"symbiosis": len(corpus)}
    rates = {name: done[name] / s for name, s in seconds.items()}
    few = corpus[:EQUAL_TEXTS]
    ours = diversity.self_bleu(few)
    differences = {name: abs(score(few, range(len(few))) - ours) for name, score in peers.items()}
    rows = [row("self-BLEU", name, rates[name], done[name]) | {"seconds": seconds[name]} for name in rates]
    for name in peers:
        beside = {
            "peer": name,
            "ratio": rates["symbiosis"] / rates[name],
            "goal": BLEU_GOAL,
            "difference": differences[name],
        }
        rows.append(row("self-BLEU", "symbiosis", rates["symbiosis"], len(corpus)) | beside)
    return rows


# --- Vendi ---------------------------------------------------------------------------------------------------------
def vendi_of_kernel(x: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues of the n x n similarities: as the definition says."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(x @ x.T / len(x))
    kept = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(kept * np.log(kept)).sum()))


def vendi_rows(n: int, repeats: int) -> list[dict]:
    rng = np.random.default_rng(common.SEED)
    # directions of falling weight, as embeddings have them
    x = rng.normal(size=(n, DIMENSIONS)) * np.arange(1, DIMENSIONS + 1) ** -0.5
    results: dict[str, float] = {}
    work = lambda name, score: lambda: lambda: results.update({name: score(x)})  # noqa: E731
    ways = {"n x n kernel": work("n x n kernel", vendi_of_kernel), "symbiosis": work("symbiosis", diversity.vendi)}
    seconds = common.interleaved(ways, repeats, "cpu")
    rows = [row("Vendi", name, n / s, n) | {"seconds": s} for name, s in seconds.items()]
    ratio = seconds["n x n kernel"] / seconds["symbiosis"]
    difference = abs(results["symbiosis"] - results["n x n kernel"])
    beside = {"peer": "n x n kernel", "ratio": ratio, "goal": VENDI_GOAL, "difference": difference}
    return [*rows, row("Vendi", "symbiosis", n / seconds["symbiosis"], n) | beside]


def row(measure: str, way: str, rate: float, n_texts: int) -> dict:
    first = {"stage": measure, "shape": "", "way": way, "texts_per_s": rate, "texts": n_texts}
    return first | {"seconds": None, "peer": "", "ratio": None, "goal": None, "difference": None}


def measure(n_texts: int, *, subset: int, repeats: int) -> list[dict]:
    corpus = common.texts(n_texts, np.random.default_rng(common.SEED))
    rows = self_bleu_rows(corpus, subset, repeats) + vendi_rows(n_texts, repeats)
    size = {"shape": f"{n_texts} texts", "n": repeats}
    return [r | size | common.about("cpu", "numpy", "nltk", "sacrebleu") for r in rows]


def main() -> None:
    given = common.arguments(__doc__, with_model=False, texts=5000, subset=2).parse_args()
    loading.use_threads(1)
    common.write(f"{given.folder}/{TABLE}", measure(given.texts, subset=given.subset, repeats=given.repeats))


if __name__ == "__main__":
    main()
