"""Ways to train, tokenizers, sizes and architectures crossed with the share of real rows: four minutes a seed."""

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from symbiosis.data.dialled import Dial
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models.student import Student
from symbiosis.small_studies import table
from symbiosis.small_studies.students import LONGEST, accuracy, lessons_of, pretrained, settings_of
from symbiosis.small_studies.training_methods import TESTED, Method, learn

WHOLE_LABELS = {"words": "words", "bpe": "bpe_labels"}  # tokenizers in which a label is one token
FACTORS = {  # size: units of the two layers
    "method": ("sft", "dpo", "policy"),
    "kind": ("neox", "llama"),
    "tokenizer": ("words", "bpe"),
    "size": (32, 128),
}
TUNED = {  # by size; seeds 1 and 2 chose the step size from half, once and twice as much
    32: {"sft": Method(4, 2e-3), "dpo": Method(4, 2e-3), "policy": Method(8, 2e-3)},
    128: {"sft": Method(4, 1e-3), "dpo": Method(4, 1e-3), "policy": Method(8, 5e-4)},
}


def share_factorial(seed: int) -> pd.DataFrame:
    """Accuracy after one lesson, none or REAL_SHARE of it real, in every cell of FACTORS and at every level of them.

    Lesson and test texts are the same for all cells; the Students of a kind, tokenizer and size begin as one. method:
    a cell, as sft_neox_words_32, or a level, as neox, the mean over the cells that have it, or `all`.
    """
    world, rng, cells = World.make(seed), np.random.default_rng([seed, 49]), []
    settings = settings_of("real", seed, lm_weight=0.0, max_length=LONGEST)
    test, lessons = Dial().texts(world, TESTED, rng), lessons_of(world, rng)
    for kind, tokenizer, size in itertools.product(*list(FACTORS.values())[1:]):
        made = pretrained(world, seed, tokenizer=WHOLE_LABELS[tokenizer], kind=kind, hidden=size)
        base = Student(made, LABEL_NAMES, settings)
        for name, (share, rows) in itertools.product(FACTORS["method"], lessons.items()):
            student = learn(base, rows, name, read=[], seed=seed, how=TUNED[size][name])
            cells.append((name, kind, tokenizer, size, share, accuracy(student, test)))
    found = levels_of(pd.DataFrame(cells, columns=[*FACTORS, "share", "value"]))
    return table("share_factorial", [(*arm, seed, 1, "accuracy", value, n * TESTED) for arm, value, n in found])


def levels_of(cells: pd.DataFrame) -> Iterator[tuple[tuple[str, str], float, int]]:
    """(method, variant), mean value, number of cells: of each cell of FACTORS, each level, and all; by share."""
    ways = [cells[[*FACTORS]].astype(str).agg("_".join, axis=1), *(cells[name].astype(str) for name in FACTORS)]
    for way in (*ways, pd.Series("all", index=cells.index)):
        for arm, part in cells.groupby([way, cells["share"]]):
            yield arm, part["value"].mean(), len(part)
