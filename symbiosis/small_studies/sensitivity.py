"""What the share of real rows is worth to Students of other tokenizers, sizes, architectures: two minutes a seed."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd

from symbiosis.data.dialled import Dial
from symbiosis.data.lesson import make_lesson
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models.student import Student
from symbiosis.small_studies import table
from symbiosis.small_studies.students import LONGEST, accuracy, lessons_of, pretrained, settings_of

ASKED = 400  # texts of the test
KINDS = {  # one thing changed at a time
    "base": {},
    "bpe": {"tokenizer": "bpe"},
    "pieces": {"tokenizer": "pieces"},
    "small": {"hidden": 32},
    "large": {"hidden": 128},
    "llama": {"kind": "llama"},
    "recurrent": {"kind": "mamba"},
}


def sensitivity(seed: int) -> pd.DataFrame:
    """Accuracy after a lesson of LESSON rows, none or REAL_SHARE of them real, of Students of every kind in KINDS.

    Each was pre-trained here on STEPS batches of the world's text, the same for all. Rows: `lessons_of`. method: which
    Student, variant: share of real rows; `weights`: how many.
    """
    world, lines, settings = World.make(seed), [], settings_of("real", seed, lm_weight=0.0, max_length=LONGEST)
    rng = np.random.default_rng([seed, 45])
    test, lessons = Dial().texts(world, ASKED, rng), lessons_of(world, rng)
    for kind, how in KINDS.items():
        student = Student(pretrained(world, seed, **how), LABEL_NAMES, settings)
        for share, rows in lessons.items():
            taught = replace(student, lm=student.lm._replace(model=copy.deepcopy(student.lm.model)))
            taught.learn(make_lesson(rows["text"].tolist(), rows["label"], "world", 1, "world"), seed=seed)
            lines.append((kind, share, seed, 1, "accuracy", accuracy(taught, test), ASKED))
        lines.append((kind, "plain", seed, 1, "weights", student.n_weights, 1))
    return table("sensitivity", lines)
