"""How real weights label: question x label words x calibration, on dev and test, with whole and skewed pools.

`python benchmarks/labeller.py --task data/ag_news` (AG News with its four classes; `make weights` first) writes
labeller.csv in --folder; the published one stands in reports/. Formats and words were chosen on dev; test is read once,
here.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import log_softmax

from symbiosis.loop import labeller, runs
from symbiosis.measures.beliefs import calibration_error, label_counts, mean_entropy
from symbiosis.models.generator import Generator
from symbiosis.models.scoring import calibrated, label_log_probs, summed
from symbiosis.settings import RunSettings, resolve
from symbiosis.store.folders import write_atomic

FORMATS = {"completion": "news_completion", "chat": "news"}
SETS = {  # in a chat answer few words are one token, so that all words together would be read in four passes
    "completion": ("names", "first", "summed"), "chat": ("names", "first"),
}  # fmt: skip
POOL = 200  # texts of the train split that stand for a pool, so that its labels can be counted right
SMOLLM = {
    "student": "smollm2-135m-instruct", "generator": "smollm2-135m-instruct", "prompts": "news_completion",
    "calibration": "written", "temperature": 0.8, "top_p": 0.95, "max_length": 48, "max_new_tokens": 36,
    "generation_batch_size": 64, "generation_engine": "refill", "device": "cpu", "seed": 1, "train_size": 1000,
    "pool_size": 100, "dev_size": 300, "test_size": 500, "lesson_size": 120,
}  # fmt: skip


def word_sets(generator: Generator) -> dict[str, dict[str, tuple[str, ...]]]:
    """Words of each class: its name, the first of the file's words, or all of them."""
    given, names = generator.prompts.label_words, generator.label_names
    every = {name: given.get(name, (name,)) for name in names}
    return {"names": {name: (name,) for name in names}, "first": {n: w[:1] for n, w in every.items()}, "summed": every}


def word_beliefs(generator: Generator, words: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """log p(word | text), normalised over the words: (n, W). A pass for all sets of words at once."""
    turns = [generator.label_turn(text) for text in generator.shorten(texts)]
    rows = generator.body_ids([generator.label_turn("x")] * len(words), words)
    return label_log_probs(generator.lm, generator.asked_ids(turns), rows, generator.settings)


def of_set(log_p: np.ndarray, words: Sequence[str], chosen: dict[str, tuple[str, ...]]) -> np.ndarray:
    """(n, C) log p of the classes, by the chosen words alone."""
    pairs = [(words.index(word), c) for c, own in enumerate(chosen.values()) for word in own]
    columns, classes = zip(*pairs, strict=True)
    return summed(log_softmax(log_p[:, columns], axis=1), classes)


def measures(log_p: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, float]]:
    """Name and value of everything that the table says of one labeller on one set of texts."""
    p = np.exp(log_p)
    yield "accuracy", (log_p.argmax(1) == labels).mean()
    yield "entropy", mean_entropy(p)
    yield "calibration_error", calibration_error(p, labels)
    yield "largest_share", label_counts(p).max() / len(labels)


def said(log_p: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Iterator[tuple[str, float]]:
    """How often each class is said to be each other one."""
    likeliest = log_p.argmax(1)
    for true, name in enumerate(names):
        for as_, other in enumerate(names):
            yield f"{name} said {other}", int(((labels == true) & (likeliest == as_)).sum())


def table(beliefs: dict[str, np.ndarray], labels: dict[str, np.ndarray], names: Sequence[str]) -> list[dict]:
    """Rows of the table for one question and one set of words.

    beliefs: log p (n, C) of dev, test, pool and drafts; labels of the same, those of the drafts as they were asked.
    """
    kept = np.ones(len(labels["pool"]), dtype=bool)
    pools = {"whole": kept} | {f"without {name}": labels["pool"] != c for c, name in enumerate(names)}
    weight = 1 / np.bincount(labels["drafts"])[labels["drafts"]]
    rows = []
    for pool, own in pools.items():
        by_pool = labeller.log_mean(beliefs["pool"][own], np.ones(own.sum()))
        references = {"none": None, "pool": by_pool, "written": labeller.log_mean(beliefs["drafts"], weight)}
        for calibration, reference in references.items():
            for split in ("dev", "test", "pool"):
                if pool != "whole" and (split == "dev" or (split == "test" and calibration != "pool")):
                    continue  # the same as with the whole pool, or no text of the skewed one
                some = own if split == "pool" else slice(None)
                log_p, true = calibrated(beliefs[split][some], reference), labels[split][some]
                head = {"calibration": calibration, "pool": pool, "split": split, "n": len(true)}
                found = [
                    *measures(log_p, true),
                    *(said(log_p, true, names) if (pool, split) == ("whole", "test") else ()),
                ]
                rows += [head | {"measure": k, "value": v} for k, v in found]
    return rows


def main(task: str, precision: str, folder: Path) -> pd.DataFrame:
    """The table, written to folder/labeller.csv as it grows; every stage tells its CPU seconds."""
    state = runs.prepare(RunSettings(**SMOLLM, task=task, precision=precision))
    names, rows, clock = state.task.label_names, [], Clock()
    drafts = labeller.own_drafts(state)
    clock.tell(f"{len(drafts)} drafts written, {sum(drafts['cut'])} of them cut")
    splits = {"dev": state.task.dev, "test": state.task.test, "pool": state.task.train.select(range(POOL))}
    splits["drafts"] = drafts
    labels = {name: np.array(split["label"]) for name, split in splits.items()}
    sets = word_sets(state.generator)
    for form, prompts in FORMATS.items():
        asked, group = state.settings.model_copy(update={"prompts": prompts}), SETS[form]
        generator = replace(state.generator, settings=asked)
        words = list(dict.fromkeys(word for name in group for own in sets[name].values() for word in own))
        log_p = {name: word_beliefs(generator, words, split["text"][:]) for name, split in splits.items()}
        clock.tell(f"{sum(map(len, labels.values()))} texts labelled by {form}, words {', '.join(group)}")
        for name in group:
            found = table({split: of_set(log_p[split], words, sets[name]) for split in log_p}, labels, names)
            rows += [{"format": form, "words": name} | row for row in found]
        result = pd.DataFrame(rows)
        write_atomic(folder / "labeller.csv", result.round(4).to_csv(index=False).encode())
    return result


class Clock:
    """CPU seconds since the last word."""

    def __init__(self):
        self.last = time.process_time()

    def tell(self, what: str) -> None:
        now = time.process_time()
        print(f"{what}: {now - self.last:.0f} CPU s", flush=True)
        self.last = now


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", required=True, help="a folder with AG News, or its hub id with @commit")
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--folder", default="reports/local", help="the published table: reports")
    given = parser.parse_args()
    found = main(given.task, given.precision, resolve(given.folder))
    shown = found[found["measure"].isin(["accuracy", "largest_share"])]
    print(shown.pivot_table(index=["format", "words", "calibration", "pool", "split", "n"], columns="measure")["value"])
