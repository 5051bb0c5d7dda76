"""Where does writing beat labelling, on real text? Pools by size and by what they lack: four minutes a seed.

SmolLM2 labels, writes and filters one lesson an arm, on AG News (params/smollm.yaml; `make weights`), for the quick
Student `minilm`. Lessons are made as in runs, but the Generator is asked nothing twice, so all pools and arms of a seed
cost little more than one run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from symbiosis import params
from symbiosis.data.task import Task, load_task
from symbiosis.loop.labeller import own_drafts, written_reference
from symbiosis.loop.methods import next_lesson
from symbiosis.loop.prepared import initial_student, load_initial
from symbiosis.loop.state import LoopState
from symbiosis.models import loading
from symbiosis.models.generator import Generator
from symbiosis.settings import RunSettings, make_settings
from symbiosis.small_studies import table

SIZES = (25, 100, 400)  # texts of a pool
LACKS = {"plain": "none", "rare": "rare_class", "missing": "no_class"}  # pool_skew
POOL_FREE = {  # name here: arm of params/studies.yaml, or what it sets
    "real": "real",
    "unfiltered": "static",
    "written": "static-filtered_half",
    "seeded": {"method": "static", "candidates": 2, "attributes": True},
    "seeded_read": {"method": "static", "candidates": 2, "attributes": True, "written_labels": "read"},
}
OF_POOLS = {
    "labels": "pseudo_label",
    "surest": "pseudo_label-sure",
    "weighted": "pseudo_label-weighted",
    "surest_and_written": "pseudo_label-sure_and_filtered",
}


@dataclass(frozen=True)
class Remembering(Generator):
    """A Generator that is asked nothing twice; what it remembers goes with it when its settings are replaced."""

    said: dict[str, np.ndarray] = field(default_factory=dict)  # {text: log p(label | text) (C,)}
    wrote: dict[tuple, list[str]] = field(default_factory=dict)  # {(turns, seed, samples): texts}

    def label_log_probs(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self.said]
        if new:
            self.said.update(zip(new, super().label_log_probs(new), strict=True))
        return np.array([self.said[text] for text in texts])

    def answers(self, turns: Sequence[str], *, seed: int, samples: int = 1) -> list[str]:
        asked = (tuple(turns), seed, samples)
        if asked not in self.wrote:
            self.wrote[asked] = super().answers(turns, seed=seed, samples=samples)
        return list(self.wrote[asked])


def pool_map(seed: int) -> pd.DataFrame:
    """Test accuracy of the quick Student after one lesson of every arm from every pool.

    method: arm; variant: what the pool lacks and its size, as missing_100, or plain of an arm that has none.
    """
    settings, lines = settings_of("pseudo_label", seed), []
    loading.use_threads(settings.threads)
    task = load_task(settings)
    student, generator = initial_student(settings, task), calibrated(settings, task)
    pools = {f"{lack}_{n}": {"pool_skew": skew, "pool_size": n} for lack, skew in LACKS.items() for n in SIZES}
    for pool, world in tqdm({"plain": {}, **pools}.items(), desc=f"pool_map, seed {seed}"):
        task = load_task(settings_of("pseudo_label", seed, **world))
        for name, arm in (OF_POOLS if world else POOL_FREE).items():
            own = settings_of(arm, seed, **world)
            lesson = next_lesson(LoopState(own, task, student, replace(generator, settings=own)), 1)
            student.learn(lesson, seed=seed)
            right = student.evaluate(task.test)["correct"]
            lines.append((name, pool, seed, 1, "accuracy", float(right.mean()), len(right)))
    return table("pool_map", lines)


def settings_of(arm: str | dict, seed: int, **world) -> RunSettings:
    """Those of a run of the arm, of one lesson."""
    own = params.all_arms()[arm] if isinstance(arm, str) else arm
    same = {"study": "pool_map", "generations": 1, "student": "minilm", "seed": seed, "reports_dir": params.LOCAL}
    return make_settings(f"pool_map, arm {arm}", **params.files()["smollm"] | own | same | world)


def calibrated(settings: RunSettings, task: Task) -> Remembering:
    """The Generator, its beliefs calibrated by drafts of its own, as a run's first stage does."""
    generator = Remembering(load_initial("generator", settings), task.label_names, settings)
    drafts = own_drafts(LoopState(settings, task, None, generator))
    return replace(generator, reference=written_reference(generator, drafts).tolist(), said={})
