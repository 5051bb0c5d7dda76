"""Each method as a short function that gives the lesson of a generation; what differs between methods is only here."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from symbiosis import teaching
from symbiosis.data import Task, make_lesson
from symbiosis.feedback import find_hard
from symbiosis.generation import generate
from symbiosis.models import start_ids, token_ids
from symbiosis.prompts import STUDENT_WRITE
from symbiosis.settings import RunSettings, derive_seed


@dataclass
class Actors:
    """Who takes part in a run, as they stand now."""

    settings: RunSettings
    task: Task
    student: Any
    student_tokenizer: Any
    generator: Any = None
    generator_tokenizer: Any = None
    hard: Dataset | None = None  # the pool texts step C found hard after the last lesson
    previous: Dataset | None = None  # the last lesson
    bases: dict[str, str] = field(default_factory=dict)  # role -> which initial weights
    counts: Counter = field(default_factory=Counter)  # what the writers were asked and gave, since last emptied

    def seed(self, generation: int, stage: str) -> int:
        return derive_seed(self.settings.seed, generation, stage)

    def rng(self, generation: int, stage: str) -> np.random.Generator:
        return np.random.default_rng(self.seed(generation, stage))

    def labels(self, n: int) -> np.ndarray:
        """n labels, as balanced as n allows."""
        return np.arange(n) % len(self.task.label_names)

    def names(self, labels) -> list[str]:
        return [self.task.label_names[i] for i in labels]


def real(actors: Actors, generation: int) -> Dataset:
    """Labelled real rows, new ones every generation until the train split starts over: the upper bound."""
    return real_rows(actors, actors.settings.lesson_size, generation)


def static(actors: Actors, generation: int) -> Dataset:
    """One lesson written by the untouched Generator, taught again every generation."""
    return actors.previous if actors.previous is not None else written(actors, actors.settings.lesson_size, generation)


def recursive(actors: Actors, generation: int) -> Dataset:
    """Every lesson is written by the Student of the generation before. Duplicates stay: they are the collapse."""
    settings, tokenizer = actors.settings, actors.student_tokenizer
    labels = actors.labels(settings.lesson_size)
    prompts = [
        start_ids(tokenizer) + ids
        for ids in token_ids(tokenizer, [STUDENT_WRITE.format(label=n) for n in actors.names(labels)])
    ]

    def draw(rows, seed):
        return generate(actors.student, tokenizer, rows, settings, seed=seed, what="the Student writes")

    texts = teaching.fresh_texts(
        draw, prompts, settings, actors.seed(generation, "write"), actors.counts, keep_duplicates=True
    )
    return make_lesson(texts, labels, "student", generation, "student_write", [""] * len(texts))


def pseudo_label(actors: Actors, generation: int) -> Dataset:
    """Random pool texts with the Generator's labels: no text is generated at all."""
    pool, n = actors.task.pool, actors.settings.lesson_size
    rng = actors.rng(generation, "pool")
    rows = pool.select(np.concatenate([rng.permutation(len(pool)) for _ in range(-(-n // len(pool)))])[:n])
    labels = generator_labels(actors, rows["text"])
    return make_lesson(rows["text"], labels, "real", generation, "label", rows["source_id"])


def symbiosis(actors: Actors, generation: int) -> Dataset:
    """Step A: a share explains what the last Student found hard, the rest is written from the label alone.

    The first lesson, before any feedback, is all written. Explanations carry the Generator's own label of them.
    """
    settings = actors.settings
    if actors.hard is None:
        return written(actors, settings.lesson_size, generation)
    n = round(settings.teaching_share * settings.lesson_size)
    hard = actors.hard.select(np.arange(n) % len(actors.hard))
    teacher, seed = (actors.generator, actors.generator_tokenizer), actors.seed(generation, "explain")
    texts = teaching.explain(*teacher, hard["text"], settings, seed=seed, counts=actors.counts)
    labels = generator_labels(actors, texts)
    explained = make_lesson(texts, labels, "generator", generation, "explain", hard["source_id"])
    rest = settings.lesson_size - n
    return concatenate_datasets([explained, written(actors, rest, generation)]) if rest else explained


LESSONS: dict[str, Callable[[Actors, int], Dataset]] = {
    "real": real, "static": static, "recursive": recursive, "pseudo_label": pseudo_label, "symbiosis": symbiosis,
}  # fmt: skip
NEEDS_GENERATOR = ("static", "pseudo_label", "symbiosis")


def real_rows(actors: Actors, n: int, generation: int) -> Dataset:
    """Rows (generation-1)n .. of the labelled train split, which starts over when it is used up."""
    train = actors.task.train
    rows = train.select((np.arange(n) + max(generation - 1, 0) * n) % len(train))
    return make_lesson(rows["text"], rows["label"], "real", generation, "real", rows["source_id"])


def written(actors: Actors, n: int, generation: int) -> Dataset:
    """n texts the Generator writes from balanced labels."""
    labels = actors.labels(n)
    teacher, seed = (actors.generator, actors.generator_tokenizer), actors.seed(generation, "write")
    texts = teaching.write(*teacher, actors.names(labels), actors.settings, seed=seed, counts=actors.counts)
    return make_lesson(texts, labels, "generator", generation, "write", [""] * n)


def generator_labels(actors: Actors, texts) -> np.ndarray:
    return teaching.label(actors.generator, actors.generator_tokenizer, texts, actors.task.label_names, actors.settings)


def step_c(actors: Actors, generation: int) -> Dataset:
    """What this Student finds hard in the unlabeled pool."""
    student = (actors.student, actors.student_tokenizer)
    rng = actors.rng(generation, "feedback")
    return find_hard(*student, actors.task.pool, actors.task.label_names, actors.settings, rng=rng)


def step_d(actors: Actors, generation: int) -> tuple[list[str], list[dict]]:
    """The Generator learns to teach actors.hard; its weights change in place."""
    teacher, seed = (actors.generator, actors.generator_tokenizer), actors.seed(generation, "teach")
    return teaching.learn_to_teach(*teacher, actors.hard["text"], actors.settings, seed=seed, counts=actors.counts)
