"""Runs that draw random numbers where they can: `python random_sources.py PLACE MODELS [stop]` makes all of them.

A process begins with global states and an order of its own; with `stop` each run first ends in the stage STOP, and
goes on from there when all have, with other states and in another order.
"""

import contextlib
import os
import random
import sys
from pathlib import Path

import numpy as np
import torch

from symbiosis import interaction
from symbiosis.loop import runs
from symbiosis.loop.feedback import SIGNALS
from symbiosis.settings import InteractionSettings, RunSettings, Settings
from symbiosis.store import stages

TINY = {
    "scale": "tiny", "generations": 2, "lesson_size": 16, "train_size": 24, "pool_size": 40, "dev_size": 8,
    "test_size": 24, "student_steps": 10, "generator_steps": 20, "hard_examples": 6, "epochs": 1, "max_new_tokens": 12,
    "max_redraws": 20, "device": "cpu",
}  # fmt: skip
MANY = {
    "scale": "tiny", "generations": 2, "rows": 16, "written": 8, "train_size": 20, "test_size": 8, "prompts": 3,
    "answers": 2, "steps": 3, "batch_size": 8, "symbiotic": 1, "candidates": 2, "device": "cpu",
}  # fmt: skip
FORGETFUL = ("student", "generator")  # folders of models with dropout
CASES = {
    "lora": {"generator_lora_rank": 4},
    "student_dropout": {"student": "student"},
    "generator_dropout": {"generator": "generator", "generator_update": "influence", "candidates": 2},
    "preferences": {"generator": "generator", "generator_update": "dpo", "candidates": 2, "generator_lora_rank": 2},
    "foreign_student": {"student": "student", "feedback_student": "foreign"},
    "sampling": {"temperature": 1.3, "top_p": 0.9, "candidates": 2, "generation_engine": "refill", "attributes": True},
    "signal": {"feedback": "random"},  # replaced by one that names no generator
    "recursion": {"method": "recursive", "student": "student", "mixing": "accumulate_subsample"},
    "two_ranks": {"method": "recursive", "student": "student", "num_processes": 2, "generations": 1},
    "many_models": {"student": "student"},
}
STOP = {"recursion": "lesson-2", "many_models": "train-1-2"}  # of all others teach-1
NOT_STOPPED = {"two_ranks"}  # has no teach-1


def settings_of(case: str, place: Path, models: Path) -> Settings:
    kind, sizes = (InteractionSettings, MANY) if case == "many_models" else (RunSettings, TINY)
    given = {k: str(models / v) if v in FORGETFUL else v for k, v in CASES[case].items()}
    return kind(**sizes | given | {"variant": case, "reports_dir": str(place)})


def unnamed(state, texts, rng) -> np.ndarray:
    """A signal whose author knows of no generator."""
    return torch.rand(len(texts)).numpy() + np.random.rand(len(texts)) + [random.random() for _ in texts]


def make(case: str, place: Path, models: Path, *, stop: bool) -> None:
    def end(name: str) -> None:
        if stop and name == STOP.get(case, "teach-1"):
            raise KeyboardInterrupt

    settings = settings_of(case, place, models)
    if case != "many_models":
        runs.run(settings, on_stage=end)
        return
    train = interaction._train
    interaction._train = lambda experiment, t, k, out: (train(experiment, t, k, out), end(f"train-{t}-{k}"))[0]
    try:
        interaction.run(settings)
    finally:
        interaction._train = train


def main(place: Path, models: Path, own: random.Random, stop: bool) -> None:
    for case in own.sample(cases := sorted(CASES.keys() - (NOT_STOPPED if stop else set())), len(cases)):
        random.seed(own.random()), np.random.seed(own.randrange(2**32)), torch.manual_seed(own.randrange(2**32))
        with contextlib.suppress(KeyboardInterrupt):
            make(case, place, models, stop=stop)
        assert (stages.run_folder(settings_of(case, place, models)) / "record.json").exists() != stop, case


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    import rank_helpers

    torch.multiprocessing.spawn = rank_helpers.fork
    SIGNALS["random"] = unnamed
    own = random.Random(os.getpid())
    for stop in (True, False) if "stop" in sys.argv[3:] else (False,):
        main(Path(sys.argv[1]), Path(sys.argv[2]), own, stop)
