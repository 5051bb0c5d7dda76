"""The share of real rows against the variety of written ones, on real text: seconds a seed.

Of the filtered texts that SmolLM2 wrote in runs of `real_weights_lesson_missing` (`static-filtered_half`, 30 per class)
subsets are taught to the linear Student `minilm`. Weights and AG News as for the runs.

A lesson has ROWS rows, as many of every class, `share` of them real. Its written rows are, of each class, about a text
drawn at random: `narrow` its nearest neighbours, `wide` a greedy k-center cover, farthest first (Sener and Savarese
2018, arXiv 1708.00489), `drawn` any; all by cosine of MiniLM's vectors.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from symbiosis.data.lesson import load_lesson
from symbiosis.data.task import load_task
from symbiosis.loop import runs
from symbiosis.loop.feedback import cover_distances
from symbiosis.measures.diversity import semantic_dispersion
from symbiosis.models.proxies import FITS, Head, fit_head
from symbiosis.settings import make_settings
from symbiosis.small_studies import table
from symbiosis.store.results import from_record

WRITTEN = "smollm/real_weights_lesson_missing/static-filtered_half"
ROWS = 48  # of a lesson; so few that a class' 30 texts can be subset at any share
SHARES = (0.0, 0.25, 0.5, 0.75)
SUBSETS = ("narrow", "drawn", "wide")


def subset(x: np.ndarray, n: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Positions of n of the rows of x (m, d), all of length 1, around or away from one drawn at random, it included."""
    first = int(rng.integers(len(x)))
    others = np.setdiff1d(np.arange(len(x)), [first])
    order = {
        "narrow": others[np.argsort(-x[others] @ x[first], kind="stable")],
        "drawn": rng.permutation(others),
        "wide": others[np.argsort(-cover_distances(x[others], x[[first]]), kind="stable")],
    }[kind]
    return np.append(first, order)[:n]


def real_ratio(seed: int, folder: str | Path) -> pd.DataFrame:
    """Rows of a seed: accuracy on test by subset and share of real rows; and of the written rows semantic_dispersion
    within a class, and read_as_label, the share that a Student of all labelled rows reads as their label."""
    run = Path(folder) / "runs" / f"{WRITTEN}-s{seed}"
    settings = make_settings(str(run), **from_record(run, lambda record: record["settings"] | {"student": "minilm"}))
    task, lesson = load_task(settings), load_lesson(run / "lessons" / "gen-1.parquet")
    student, n_classes = runs.initial_student(settings, task), len(task.label_names)
    sets = {name: (rows["text"][:], np.array(rows["label"])) for name, rows in
            {"written": lesson, "real": task.train, "test": task.test}.items()}  # fmt: skip
    x, y = ({name: part[i] for name, part in sets.items()} for i in (0, 1))
    x = {name: student.vectors(texts) for name, texts in x.items()}
    x = {name: vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for name, vectors in x.items()}

    def fitted(vectors: np.ndarray, labels: np.ndarray) -> Head:
        return fit_head(vectors, np.eye(n_classes)[labels], np.ones(len(labels)), **FITS["minilm"])

    def right(head: Head, vectors: np.ndarray, labels: np.ndarray) -> float:
        return float((head.log_probs(vectors).argmax(1) == labels).mean())

    judge, lines = fitted(x["real"], y["real"]), []
    for kind in SUBSETS:
        for share in SHARES:
            rng = np.random.default_rng([seed, 60])  # first texts and real rows are the same at every share, and subset
            real = round(ROWS * share / n_classes)
            written, true, within = [], [], []
            for c in range(n_classes):
                own, truth = np.flatnonzero(y["written"] == c), np.flatnonzero(y["real"] == c)
                true += [*rng.permutation(truth)[:real]]
                chosen = own[subset(x["written"][own], ROWS // n_classes - real, kind, rng)]
                written += [*chosen]
                within.append(semantic_dispersion(x["written"][chosen]))
            head = fitted(
                np.concatenate([x["written"][written], x["real"][true]]),
                np.concatenate([y["written"][written], y["real"][true]]),
            )
            measured = {
                "accuracy": (right(head, x["test"], y["test"]), len(y["test"])),
                "semantic_dispersion": (float(np.mean(within)), len(written)),
                "read_as_label": (right(judge, x["written"][written], y["written"][written]), len(written)),
            }
            variant = f"{kind}_r{100 * share:03.0f}"
            lines += [("written", variant, seed, 1, metric, *value) for metric, value in measured.items()]
    return table("real_ratio", lines)
