"""Who takes part in a run, as they stand between two steps of the loop."""

import contextlib
import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from datasets import Dataset

from symbiosis.data.task import Task
from symbiosis.models.generator import Generator
from symbiosis.models.proxies import ProxyStudent
from symbiosis.models.student import Student
from symbiosis.settings import RunSettings, derive_seed


@dataclass
class LoopState:
    """What a step of the loop reads, and what it leaves for the next one."""

    settings: RunSettings
    task: Task
    student: Student | ProxyStudent
    generator: Generator | None = None
    lesson: Dataset | None = None  # what the Student was taught last
    first_lesson: Dataset | None = None  # that of generation 1
    hard: Dataset | None = None  # the pool texts step C found hard after the last lesson
    accumulated: Dataset | None = None  # the new rows of every generation, where `mixing` asks for them
    written: Dataset | None = None  # all that `static` draws its lessons from, where `static_size` asks for it
    taught: set[str] = field(default_factory=set)  # source ids of all lessons so far
    writers: Sequence[Generator] = ()  # who write in equal parts instead of the Generator, where there are some
    counts: Counter = field(default_factory=Counter)  # what the writers were asked and gave in this stage

    def seed(self, generation: int, stage: str) -> int:
        return derive_seed(self.settings.seed, generation, stage)

    def rng(self, generation: int, stage: str) -> np.random.Generator:
        return np.random.default_rng(self.seed(generation, stage))

    @property
    def n_classes(self) -> int:
        return len(self.task.label_names)

    def balanced_labels(self, n: int) -> np.ndarray:
        """n labels, as balanced as n allows."""
        return np.arange(n) % self.n_classes

    @property
    def reader(self) -> Student | ProxyStudent | Generator:
        """Who reads labels off texts: the Generator, else the Student."""
        return self.generator or self.student

    def narrowed(self, names: Collection[str], splits: Collection[str]) -> "LoopState":
        """A run's state before its first lesson, with no other settings and splits than these: who reads another fails.

        So whatever is made from it is the same in all runs that agree in these, in weights and in `reference`.
        """
        settings, gone = self.settings.model_copy(), {"train", "dev", "test", "pool"} - {*splits}
        for name in type(settings).model_fields.keys() - {*names}:
            del vars(settings)[name]
        nothing = dict.fromkeys(gone) | dict.fromkeys(("name", "source", "fingerprint", "data", "overlap", "cleaned"))
        models = [one and replace(one, settings=settings) for one in (self.student, self.generator)]
        return LoopState(settings, replace(self.task, **nothing), *models)


@contextlib.contextmanager
def seeded(seed: int, stage: str) -> Iterator[None]:
    """Inside, the random numbers that name no generator of their own (of torch, numpy, Python) follow from the stage.

    What ours draws has its own; a signal, a method or a library may not. The states are put back.
    """
    own = derive_seed(seed, "stage", stage)
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            random.seed(own), np.random.seed(own % 2**32), torch.manual_seed(own)
            yield
        finally:
            random.setstate(python), np.random.set_state(numpy)


def cycle(sources: Sequence, n: int):
    """n rows of a data set, in turn."""
    return sources.select(np.arange(n) % len(sources))
