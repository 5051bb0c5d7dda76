"""Diversity, quality and complexity of a lesson, in and out of distribution: half a minute a seed."""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from symbiosis.data.dialled import Dial
from symbiosis.data.lesson import make_lesson
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.loop import runs
from symbiosis.loop.mixing import weak_labels
from symbiosis.models.student import Student
from symbiosis.small_studies import table
from symbiosis.small_studies.students import LESSON, NARROW, accuracy, settings_of

DRAWN, ASKED = 3, 400  # texts drawn for each of a lesson, of a test
DIVERSITY = {"narrow": NARROW, "even": 0.3}
QUALITY = {"right": 1.0, "wrong": 0.6}  # share of labels that are right
COMPLEXITY = {
    "plain": {},
    "short": {"sentences": 1},
    "long": {"sentences": 4},
    "deep": {"deep": True},
    "easy": {},
    "hard": {},
}
SHIFTS = {"words": Dial(new_words=True), "templates": Dial(new_templates=True), "mix": Dial(0.0, uneven=True)}


def third_lever(seed: int) -> pd.DataFrame:
    """What each lever of a lesson is worth to the Student where a text is like the lesson's, and where it is not.

    A lesson of LESSON texts for every combination of DIVERSITY, QUALITY and COMPLEXITY; hard and easy are the thirds of
    what is drawn that the untaught Student predicts worst and best. accuracy: in distribution, plain texts with the
    lesson's own shares of subtopics. Out of it, from the true shares, accuracy_words: with entities that no lesson
    has; accuracy_templates: in frames that none has; accuracy_mix: uneven classes of even subtopics. accuracy_ood is
    the mean of the three, generalisation accuracy_ood - accuracy. Arms: a level of a lever, mean over the others;
    `crossed`, a diversity with a complexity.
    """
    state = runs.prepare(settings_of("real", seed, lm_weight=0.0))
    world, rng = World.make(seed), np.random.default_rng([seed, 42])
    tests = {f"accuracy_{name}": dial.texts(world, ASKED, rng) for name, dial in SHIFTS.items()}
    cells = []
    for diversity, complexity in itertools.product(DIVERSITY, COMPLEXITY):
        own = {"accuracy": Dial(DIVERSITY[diversity]).texts(world, ASKED, np.random.default_rng([seed, 43]))}
        dial = Dial(DIVERSITY[diversity], **COMPLEXITY[complexity])
        texts = of_loss(complexity, state.student, dial.texts(world, DRAWN * LESSON, rng))
        for quality, right in QUALITY.items():
            labels = weak_labels(texts["label"], right, len(LABEL_NAMES), np.random.default_rng([seed, 44]))
            student = state.student.load(state.student.folder)
            student.learn(
                make_lesson(texts["text"].tolist(), labels, "world", 1, "world"), seed=state.seed(1, "lesson")
            )
            found = {"diversity": diversity, "quality": quality, "complexity": complexity}
            cells.append(found | {name: accuracy(student, rows) for name, rows in (own | tests).items()})
    return table("third_lever", [(*arm, seed, 1, *line) for arm, line in main_effects(pd.DataFrame(cells))])


def of_loss(complexity: str, student: Student, texts: pd.DataFrame) -> pd.DataFrame:
    """LESSON of the texts, balanced over classes: of the Student's lowest or highest loss, else the first."""
    loss = student.text_losses(texts["text"].tolist()) if complexity in ("easy", "hard") else np.arange(len(texts))
    order = pd.Series(-loss if complexity == "hard" else loss, index=texts.index)
    return texts[order.groupby(texts["label"]).rank() <= LESSON / len(LABEL_NAMES)]


def main_effects(cells: pd.DataFrame) -> Iterator[tuple[tuple[str, str], tuple]]:
    """(method, variant), (metric, value, n) of every level of a lever, mean over the others; see `third_lever`."""
    away = [f"accuracy_{name}" for name in SHIFTS]
    cells = cells.assign(accuracy_ood=cells[away].mean(axis=1))
    cells["generalisation"] = cells["accuracy_ood"] - cells["accuracy"]
    crossed = cells["diversity"] + "_" + cells["complexity"]
    for method, level in {**cells[["diversity", "quality", "complexity"]], "crossed": crossed}.items():
        for variant, part in cells.groupby(level):
            for metric in ("accuracy", *away, "accuracy_ood", "generalisation"):
                yield (method, str(variant)), (metric, part[metric].mean(), ASKED * len(part))
