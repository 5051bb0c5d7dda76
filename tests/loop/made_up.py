"""A loop without models: a Generator of three texts, a Student that finds long texts hard, a task of three words."""

from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from symbiosis.data.task import Task
from symbiosis.loop.state import LoopState
from symbiosis.prompts import read_prompts
from symbiosis.settings import RunSettings

LABELS = ("cat", "dog", "bird")
TEXTS = ("The cat sleeps.", "A dog barks.", "Some bird sings.")


def word_of(text: str) -> int:
    """The label whose word is in the text."""
    return next(label for label, word in enumerate(LABELS) if word in text)


@dataclass(frozen=True)
class ThreeTexts:
    """A Generator: it answers with the text of the word it is asked about, reads labels off words, and notes lessons.

    `blind`: words it reads as the next label instead.
    """

    settings: RunSettings
    label_names: tuple[str, ...] = LABELS
    blind: tuple[str, ...] = ()
    seeds: list[int] = field(default_factory=list)
    learnt: list[tuple] = field(default_factory=list)
    prompts = read_prompts()

    def names(self, labels):
        return [self.label_names[i] for i in labels]

    def write_turns(self, labels):
        return [f"Write of a {name}." for name in self.names(labels)]

    def shorten(self, texts):
        return list(texts)

    def answers(self, prompts, *, seed, samples=1):
        self.seeds.append(seed)
        return [TEXTS[word_of(prompt)] for prompt in prompts for _ in range(samples)]

    def label_probs(self, texts):
        labels = [(word_of(text) + (LABELS[word_of(text)] in self.blind)) % 3 for text in texts]
        return 0.1 + 0.7 * np.eye(3)[labels]

    def label_log_probs(self, texts):
        return np.log(self.label_probs(texts))

    def fine_tune(self, asked, answers, *, seed, weights=None):
        self.learnt.append((list(asked), list(answers), weights))
        return [{"loss": 1.0}]

    def prefer(self, asked, best, worst, *, seed):
        self.learnt.append((list(asked), list(best), list(worst)))
        return [{"loss": 1.0, "preferred": 0.5}]


@dataclass(frozen=True)
class Reader:
    """A Student: `sign` times a text's number of letters is its loss; it keeps the lessons and seeds it is given."""

    sign: float = 1.0
    log_p: np.ndarray | None = None
    lessons: list[tuple[Dataset, int]] = field(default_factory=list)
    lm: None = None

    def text_losses(self, texts):
        return self.sign * np.array([len(text) for text in texts], float)

    def label_log_probs(self, texts):
        return self.log_p if self.log_p is not None else np.log(np.full((len(texts), 3), 1 / 3))

    def cues(self, labels):
        return [[int(label)] for label in labels]

    def learn(self, lesson, *, seed):
        self.lessons.append((lesson, seed))
        return []


def rows(name: str, n: int) -> Dataset:
    """n rows of the three words in turn, of different lengths."""
    columns = {"text": [f"{TEXTS[i % 3]} {name} {'x' * i}" for i in range(n)], "label": [i % 3 for i in range(n)]}
    return Dataset.from_dict(columns | {"source_id": [f"{name}:{i}" for i in range(n)]})


def state_of(student=None, *, blind: tuple[str, ...] = (), world=None, **changes) -> LoopState:
    """A LoopState of 12 train, 5 dev and 10 pool rows; lessons have 12 rows, and nothing is drawn twice."""
    settings = RunSettings(**{"lesson_size": 12, "hard_examples": 4, "scored_share": 1.0, "max_redraws": 0} | changes)
    pool = rows("pool", 10).remove_columns("label")
    splits = {"train": rows("train", 12), "dev": rows("dev", 5), "test": rows("test", 6), "pool": pool}
    task = Task("made_up", "made_up", LABELS, **splits, overlap={}, cleaned={}, world=world, fingerprint="")
    return LoopState(settings, task, student or Reader(), ThreeTexts(settings, blind=blind))
