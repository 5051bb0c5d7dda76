"""Does a Generator come to write what its initial self hardly gave? Counted in lessons that runs left: seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from symbiosis.data.lesson import load_lesson
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.measures.lessons import subtopic_counts
from symbiosis.settings import arm_of
from symbiosis.small_studies import table

RARE = 0.01  # share of its texts that an initial self gives to a mode at most, for it to be novel
TWINS = {"plain": ("main", "frozen"), "teach_mixture": ("teach", "fresh")}  # variant: study, its frozen twin


def novel_modes(seed: int, *folders: str | Path) -> pd.DataFrame:
    """The share of the last generation's texts in modes, subtopics of a class, that were rare in the initial self.

    What is rare is counted in texts that the frozen twin wrote from the label alone in the generations before the last;
    its texts of the last one are fresh, so that chance alone moves nothing. `novel_mass`: of texts written from the
    label alone; `novel_mass_lesson`: of the whole lesson, explanations of pool texts among it.
    """
    world, lines = World.make(seed), []
    truth = np.tile(world.shares, len(LABEL_NAMES)) / len(LABEL_NAMES)
    for variant, (study, twin) in TWINS.items():
        taught, frozen = (lessons(folders, study, arm_of("symbiosis", name), seed) for name in (variant, twin))
        if not taught or not frozen:
            continue
        *before, last = frozen
        given = subtopic_counts([text for part in before for text in written(part)], world)
        rare = given <= RARE * given.sum()
        also = {"rare_modes": rare.mean(), "novel_mass_of_truth": truth[rare].sum()}
        for name, lesson, more in ((variant, taught[-1], {}), (twin, last, also)):
            texts = {"novel_mass": written(lesson), "novel_mass_lesson": lesson["text"].tolist()}
            counts = {metric: subtopic_counts(some, world) for metric, some in texts.items()}
            values = {metric: n[rare].sum() / max(n.sum(), 1) for metric, n in counts.items()} | more
            lines += [("symbiosis", name, seed, len(frozen), m, v, len(lesson)) for m, v in values.items()]
    return table("novel_modes", lines)


def lessons(folders: Sequence[str | Path], study: str, arm: str, seed: int) -> list[pd.DataFrame]:
    """The lessons of generations 1..G of a finished run below one of the folders; [] where none has it."""
    runs = [Path(folder) / "runs" / "miniature" / study / f"{arm}-s{seed}" for folder in folders]
    run = next((run for run in runs if (run / "record.json").is_file()), None)
    return [load_lesson(path).to_pandas() for path in sorted(run.glob("lessons/gen-*.parquet"))] if run else []


def written(lesson: pd.DataFrame) -> list[str]:
    return lesson.loc[lesson["prompt_kind"] == "write", "text"].tolist()
