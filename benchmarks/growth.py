"""How cost grows: scoring with the size of the pool, training with the size of the lesson, self-BLEU with the texts.

    python benchmarks/growth.py --scored 8000 --taught 800

    seconds ~ size^exponent:   least squares of log seconds on log size, with its 95% interval

Sizes are halved three times from the largest. An exponent below 1 says that a fixed cost is still seen at these sizes,
one above 1 that twice the texts cost more than twice the time.
"""

from collections.abc import Callable
from typing import Any

import common
import numpy as np
from datasets import Dataset
from scipy import stats

from symbiosis import diversity, models, scoring, training
from symbiosis.miniature import LABEL_NAMES
from symbiosis.settings import RunSettings

TABLE = "growth.csv"
HALVINGS = 3


def exponent(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float, float]:
    """(slope, low, high) of log seconds on log size, both (n,): least squares, 95% interval by Student's t."""
    fit = stats.linregress(np.log(sizes), np.log(seconds))
    half = stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def score_pool(model, tokenizer, texts: list[str]) -> Callable[[], Any]:
    """Step C: what the Student finds hard, by its loss on every text."""
    rows = [models.start_ids(tokenizer) + ids for ids in models.token_ids(tokenizer, texts, 128)]
    return lambda: scoring.text_losses(model, tokenizer, rows, [1] * len(rows), RunSettings(generation_batch_size=64))


def teach_lesson(model, tokenizer, texts: list[str]) -> Callable[[], Any]:
    """Step B, one epoch."""
    labels = [i % len(LABEL_NAMES) for i in range(len(texts))]
    lesson = Dataset.from_dict({"text": texts, "label": labels, "weight": [1.0] * len(texts)})
    settings = RunSettings(epochs=1, batch_size=8, max_length=128)
    return lambda: training.train_student(model, tokenizer, lesson, LABEL_NAMES, settings, seed=common.SEED)


def self_bleu(model, tokenizer, texts: list[str]) -> Callable[[], Any]:
    return lambda: diversity.self_bleu(texts)


STAGES = {
    "scoring": ("pool_size", score_pool),
    "training": ("lesson_size", teach_lesson),
    "self-BLEU": ("lesson_size", self_bleu),
}


def measure(shape: str, *, largest: dict[str, int], repeats: int, device: str) -> list[dict]:
    """A row per stage; `largest` are the texts of its largest size."""
    model, tokenizer = common.student(shape, device)
    corpus = common.texts(max(largest.values()), np.random.default_rng(common.SEED))
    rows = []
    for stage, (grows_with, prepare) in STAGES.items():
        sizes = [largest[stage] >> k for k in range(HALVINGS, -1, -1)]
        prepare(model, tokenizer, corpus[: sizes[0]])()  # warm-up
        turns = []
        for _ in range(repeats):
            ways = {n: lambda n=n, prepare=prepare: prepare(model, tokenizer, corpus[:n]) for n in sizes}
            turns.append(common.interleaved(ways, 1, model.device))
        points = [(n, s) for turn in turns for n, s in turn.items()]
        slope, low, high = exponent(*np.array(points).T)
        rows.append(
            {"stage": stage, "shape": shape, "grows_with": grows_with, "smallest": sizes[0], "largest": sizes[-1]}
            | {"seconds_at_largest": float(np.median([turn[sizes[-1]] for turn in turns]))}
            | {"exponent": slope, "low": low, "high": high, "n": repeats} | common.about(model.device)
        )  # fmt: skip
    return rows


def main() -> None:
    given = common.arguments(__doc__, scored=8000, taught=800, compared=8000).parse_args()
    models.use_threads(1)
    largest = {"scoring": given.scored, "training": given.taught, "self-BLEU": given.compared}
    rows = measure(given.shape, largest=largest, repeats=given.repeats, device=given.device)
    common.write(f"{given.folder}/{TABLE}", rows)


if __name__ == "__main__":
    main()
