"""What a candidate costs: two forward passes along the dev gradient, or a step of training on it and a look at dev.

    python benchmarks/influence.py --shape miniature
    python benchmarks/influence.py --shape pythia-160m

Both ways work on the same Student (random weights: the arithmetic is the same), in turns within one process, on one
thread. The other way is Montessori-Instruct's (Li et al. 2024, arXiv 2410.14208): from the same checkpoint each time,
one AdamW step on the one candidate, then the mean loss over all of dev. Times are CPU seconds of the process, so that
other jobs on the machine count little. The table goes to influence.csv in --folder, a row per shape and dev
size: `ratio` is how many times cheaper a candidate is; state_s and direction_s are paid once per averaged step, for all
candidates together.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import common
import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.loop import influence
from symbiosis.models import loading
from symbiosis.models.loading import LanguageModel
from symbiosis.models.student import LessonRows, Student
from symbiosis.pretrain.miniature import SIZES, word_tokenizer
from symbiosis.pretrain.recipe import new_model
from symbiosis.settings import RunSettings, resolve
from symbiosis.store.folders import write_atomic

SEED = 6  # of the world whose texts are timed
TABLE = "influence.csv"


@dataclass
class Case:
    """One Student and the texts it is timed on."""

    student: Student
    candidates: Dataset
    lesson: Dataset
    dev: Dataset


def case(shape: str, n_candidates: int, n_dev: int) -> Case:
    world, rng = World.make(SEED), np.random.default_rng(SEED)
    tokenizer = word_tokenizer(world, "student")
    torch.manual_seed(SEED)
    model = STUDENTS[shape](tokenizer).eval()
    settings = RunSettings(learning_rate=2e-3 if shape == "miniature" else 5e-5, dev_size=n_dev)
    lesson = rows(world, 4 * settings.batch_size, rng)
    student = Student(LanguageModel(model, tokenizer), LABEL_NAMES, settings)
    return Case(student, rows(world, n_candidates, rng), lesson, rows(world, n_dev, rng))


def rows(world: World, n: int, rng: np.random.Generator) -> Dataset:
    """n labelled texts, two documents each: 40 words, about the length of a news summary."""
    first = world.sample(n, rng)
    second = world.sample(n, rng, labels=first.label.to_numpy())
    texts = [f"{a} {b}" for a, b in zip(first.text, second.text, strict=True)]
    return Dataset.from_dict({"text": texts, "label": first.label.tolist(), "weight": [1.0] * n})


def miniature(tokenizer):
    return new_model("student", tokenizer, SIZES["student"])


def pythia_160m(_tokenizer):
    """The architecture of EleutherAI/pythia-160m; the words take the first ids of its vocabulary."""
    size = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=50304, max_position_embeddings=2048, rotary_pct=0.25, **size))


STUDENTS = {"miniature": miniature, "pythia-160m": pythia_160m}


def two_passes(case: Case, q) -> None:
    """Every candidate's slope along q: what `influence` does per candidate."""
    losses = LessonRows(case.student, case.candidates)
    batches = loading.batches_by_length(losses.lengths, case.student.settings.generation_batch_size)
    forward = lambda: np.concatenate([losses.row_losses(batch)[0].numpy() for batch in batches])  # noqa: E731
    influence.directional_slopes(case.student, q, forward, influence.STEP)


def retraining(case: Case, step: influence.NextStep, theta) -> None:
    """Every candidate: a step on it alone from the checkpoint `theta` and the moments of `step`, then all of dev."""
    losses = LessonRows(case.student, case.candidates)
    for i in range(losses.n):
        loss = influence.batch_loss(losses.row_losses(np.array([i])), torch.ones(1), case.student.settings.lm_weight)
        influence.train_step(case.student, theta, step, loss)
        with torch.inference_mode():
            sum(influence.dev_losses(case.student, case.dev))
        for p, start in zip(case.student.lm.model.parameters(), theta, strict=True):
            p.data.copy_(start)


def cpu_s(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def measure(whole: Case, few: Case, repeats: int) -> dict[str, float]:
    """CPU seconds: the direction once, then medians over interleaved turns; `few` has the candidates retrained on."""
    state = lambda: influence.next_step(whole.student, whole.lesson, seed=SEED)  # noqa: E731
    state_s, step = cpu_s(state)
    direction = lambda: influence.dev_direction(whole.student, step, whole.dev)  # noqa: E731
    direction_s, q = cpu_s(direction)
    turns = []
    with influence.restored(whole.student) as theta:
        for _ in range(repeats):
            passes = cpu_s(lambda: two_passes(whole, q))[0] / len(whole.candidates)
            turns.append((passes, cpu_s(lambda: retraining(few, step, theta))[0] / len(few.candidates)))
    passes_s, retraining_s = np.median(turns, axis=0)
    return {"state_s": state_s, "direction_s": direction_s, "two_passes_s": passes_s, "retraining_s": retraining_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=STUDENTS, default="miniature")
    parser.add_argument("--candidates", type=int, default=16, help="scored by two passes in each turn")
    parser.add_argument("--retrained", type=int, default=1, help="of them, retrained on in each turn")
    parser.add_argument("--dev", type=int, default=256, help="dev texts; 64 for a quick look")
    parser.add_argument("--repeats", type=int, default=3, help="turns; the medians are written")
    parser.add_argument("--folder", default=common.FOLDER, help="where the table goes")
    given = parser.parse_args()
    loading.use_threads(1)
    whole = case(given.shape, given.candidates, given.dev)
    few = replace(whole, candidates=whole.candidates.select(range(given.retrained)))
    seconds = measure(whole, few, given.repeats)
    ratio = seconds["retraining_s"] / seconds["two_passes_s"]
    asked = {key: value for key, value in vars(given).items() if key != "folder"}
    row = asked | {name: f"{value:.3g}" for name, value in seconds.items()} | {"ratio": f"{ratio:.1f}"}
    print(write_row(resolve(given.folder) / TABLE, row).to_string(index=False))


def write_row(path: Path, row: dict) -> pd.DataFrame:
    """The table with this row in place of the one of the same shape and dev size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = pd.DataFrame([row | {"clock": "process CPU seconds, 1 thread"}]).astype(str)
    if path.is_file():
        old = pd.read_csv(path, dtype=str)
        same = (old["shape"] == new["shape"][0]) & (old["dev"] == new["dev"][0])
        new = pd.concat([old[~same], new]).sort_values(["shape", "dev"])
    write_atomic(path, new.to_csv(index=False, lineterminator="\n").encode())
    return new


if __name__ == "__main__":
    main()
