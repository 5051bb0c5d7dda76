"""What every round needs: settings, tasks, the entities' weights and texts."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from symbiosis.data.planted import Fact
from symbiosis.data.texts import TaskTexts
from symbiosis.data.world import World
from symbiosis.errors import SymbiosisError
from symbiosis.models import loading
from symbiosis.settings import InteractionSettings, RunSettings, derive_seed


class InteractionError(SymbiosisError):
    """An experiment that cannot go on or be read, with the remedy."""


@dataclass(frozen=True)
class Experiment:
    """What every generation needs: K private tasks and, last, the public one; where weights and texts are."""

    settings: InteractionSettings
    tasks: list[TaskTexts]
    bases: tuple[str, ...]  # folder or hub id of each entity's initial model, one and the same but for `students`
    folder: Path

    @property
    def entities(self) -> range:
        return range(1, self.settings.entities + 1)

    @property
    def task_ends(self) -> list[str]:
        """How metrics name the tasks: 1..K and public."""
        return [*map(str, self.entities), "public"]

    @cached_property
    def fact(self) -> Fact | None:
        """What entity 1 is told wrong, where the settings plant something."""
        settings = self.settings
        planted = settings.false_share or settings.true_share
        return Fact.of(World.make(settings.seed), settings.private) if planted else None

    def seed(self, generation: int, *names: str | int) -> int:
        return derive_seed(self.settings.seed, generation, *names)

    def load(self, entity: int, generation: int):
        """Model and tokenizer of an entity after a generation; after -1 what it begins as."""
        settings = self.settings
        if generation < 0:
            commit = settings.of_entity(entity).student_revision
            return loading.load(self.bases[entity - 1], commit, device=settings.device)
        folder = self.folder / "state" / f"train-{generation}-{entity}" / "model"
        return loading.load(str(folder), device=settings.device)

    def written(self, generation: int) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "lessons" / f"gen-{generation}.parquet")


def loop_settings(settings: InteractionSettings) -> RunSettings:
    """Of the loop's Student, the encoder `miniature`: of the world's words it has read all, of every class."""
    return RunSettings(seed=settings.seed, student_steps=300)
