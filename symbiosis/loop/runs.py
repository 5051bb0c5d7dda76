"""Run a method: generation by generation, stage by stage, atomic, resumable, recorded.

A stage (calibration, lesson, student, teach) writes into a temporary folder that is renamed when complete; a killed run
continues at the first stage that is missing or not as its checksums say (symbiosis/store/README.md).
Randomness is derived from (seed, generation, stage), so a continued run gives the numbers of an unbroken one.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from symbiosis.data.lesson import load_lesson, save_lesson
from symbiosis.data.task import Task, load_task
from symbiosis.loop.labeller import reference, report, tell
from symbiosis.loop.methods import (
    NEEDS_GENERATOR,
    as_labelled,
    mine_hard_texts,
    next_lesson,
    teach_another,
    update_generator,
)
from symbiosis.loop.policy import cost, snapshots, teach_round, told_in_a_line
from symbiosis.loop.prepared import initial_student, load_initial, prepare, roles, weights_named
from symbiosis.loop.state import LoopState, seeded
from symbiosis.measures.lessons import labels_right, whole_lesson
from symbiosis.models import loading
from symbiosis.models.devices import resolved_precision, tell_precision
from symbiosis.models.generator import Generator
from symbiosis.models.hidden_states import probe, random_model
from symbiosis.models.student import Student
from symbiosis.models.tokens import cut_share
from symbiosis.prompts import prompts_file, read_prompts
from symbiosis.settings import UNREPORTED, RunSettings
from symbiosis.store.folders import sha256
from symbiosis.store.record import Made, code_digest, machine, run_once, versions
from symbiosis.store.stages import invalidate, metric, settle_inputs, shared_folder, stage

UNITS = {"accuracy": "share", "label_loss": "nats", "lm_loss": "nats/token"}
DRIFT_TEXTS = 64  # own texts behind `generator_kl`
# All settings that stages which runs share may read, see `Loop.shared`.
READS = ("seed", "device", "threads", "precision", "prompts", "max_length", "generation_batch_size")
WRITES = (*READS, "calibration", "generation_engine", "temperature", "top_p", "max_new_tokens")
EVALUATES = (*READS, "student", "lm_weight", "probe_hidden_states")
LEARNS = (
    "epochs", "batch_size", "learning_rate", "schedule", "warmup_steps",
    "num_processes", "sharding", "gradient_accumulation_steps",
)  # fmt: skip
NOT_PROBED = {f"{name}_{part}": math.nan for name in ("density", "effective_rank") for part in ("head", "tail")} | {
    "n": 0
}


def run(settings: RunSettings, *, on_stage: Callable[[str], None] = lambda name: None) -> pd.DataFrame:
    """The rows of a run: read where it is finished, continued where it stopped, begun where it is new.

    on_stage: called with a stage's name when its work is done and nothing of it is kept yet.
    """
    words = read_prompts(settings.prompts)  # or a sentence, before any work
    task = load_task(settings)
    words.check_classes(task.label_names)
    inputs = {"task": task.fingerprint} | ({"prompts": digest} if (digest := settings.prompts_digest) else {})
    for role in roles(settings):
        inputs |= weights_named(role, settings)
    return run_once(settings, inputs, lambda folder: _run_all(folder, prepare(settings, task), on_stage))


def _calibrates(settings: RunSettings) -> bool:
    return settings.calibration != "none" and settings.method in NEEDS_GENERATOR


# --- the loop ------------------------------------------------------------------------------------------------------


def _run_all(folder: Path, state: LoopState, on_stage: Callable[[str], None]) -> Made:
    settings, loop = state.settings, Loop(state, folder, on_stage)
    precision, inputs = tell_precision(settings.precision, state.student.device), loop.inputs
    if settings.precision == "auto":
        inputs["precision"] = precision
    inputs["sizes"] = _sizes(loop.state)
    marks = {name: value for name, value in inputs.items() if name != "task_source"}  # a folder may be moved
    settle_inputs(folder, marks, redo=settings.scale == UNREPORTED)
    invalidate(folder / "state", stage_names(settings))
    how_read = _how_texts_are_read(loop.state)
    loop.calibrate()
    loop.begin()
    if 0 in settings.taught_after:
        loop.teach_to_write(0)  # D before anything is written
    for generation in tqdm(range(1, settings.generations + 1), desc=settings.run_id):
        loop.write_lesson(generation)  # A
        accuracy = loop.train_student(generation)  # B, and the evaluation
        if settings.needs_feedback and generation < settings.generations:
            loop.teach_generator(generation)  # C and D
        if generation in settings.taught_after:
            loop.teach_to_write(generation)  # D by what the Students lack
        tqdm.write(f"{settings.run_id} generation {generation}: accuracy {accuracy:.3f}")
    counts = [result["writing_counts"] for result in loop.results if "writing_counts" in result]
    labeller = next((result["labeller"] for result in loop.results if "labeller" in result), None)
    more = {"inputs": inputs, "writing_counts": counts, "labeller": labeller, "precision": precision, **how_read}
    return loop.results, loop.state.student.device, more


def _how_texts_are_read(state: LoopState) -> dict:
    """For the record: the share of train texts that are cut, which is also said, and the Generator's first prompt."""
    texts, limit, generator = state.task.train["text"][:], state.settings.max_length, state.generator
    reader = state.student if isinstance(state.student, Student) else state.student.asker or generator
    share = round(cut_share(reader.lm.tokenizer, texts, limit), 4) if reader else None  # an encoder does not tell
    if share:
        tqdm.write(
            f"{share:.0%} of the train texts are longer than max_length, {limit} tokens: read so far, without end"
        )
    prompt = generator.read(generator.write_turns([0])[0]) if generator else None
    return {"train_texts_cut": share, "prompt": prompt}


def _sizes(state: LoopState) -> dict[str, int]:
    """Classes, rows of each split, and weights of each model."""
    task, models = state.task, {"student": state.student, "generator": state.generator}
    rows = {name: len(getattr(task, name)) for name in ("train", "pool", "dev", "test")}
    weights = {name: one.n_weights for name, one in models.items() if one}
    return {"classes": len(task.label_names)} | rows | weights


def stage_names(settings: RunSettings) -> list[str]:
    """The stages of a run, in the order in which they are made."""
    names = [*["calibration-0"] * _calibrates(settings), "student-0", *_rounds(settings, 0)]
    for generation in range(1, settings.generations + 1):
        names += [f"lesson-{generation}", f"student-{generation}"]
        if settings.needs_feedback and generation < settings.generations:
            names.append(f"teach-{generation}")
        names += _rounds(settings, generation)
    return names


def _rounds(settings: RunSettings, generation: int) -> list[str]:
    """The stages in which the Generator learns to write after a generation: a round each."""
    rounds = range(1, settings.teach_rounds + 1) if generation in settings.taught_after else ()
    return [f"round-{generation}-{k}" for k in rounds]


@dataclass
class Loop:
    """The stages of a run: each is made, or read where it is there, and leaves the state as if it had been made."""

    state: LoopState
    folder: Path
    on_stage: Callable[[str], None]
    results: list[dict] = field(default_factory=list)

    def stage(self, name: str, make: Callable[[Path], dict], *also: Path, shared: Path | None = None) -> Path:
        """Make the stage or find it made; its folder."""
        own = self.state.settings.run_id

        def work(out: Path) -> dict:
            with seeded(self.state.settings.seed, name):
                result = make(out)
            self.on_stage(name)
            return result | ({"made_by": own} if shared else {})

        result = stage(self.folder / "state", name, work, also=also, shared=shared)
        self.results.append(result)
        if result.get("made_by", own) != own:
            tqdm.write(f"{name}: taken from {result['made_by']}, where it is the same")
            if "labeller" in result:
                tell(result["labeller"], np.array(self.state.task.dev["label"]))
        return self.folder / "state" / name

    def shared(self, name: str, settings: tuple[str, ...], splits: tuple[str, ...]) -> tuple[LoopState, Path]:
        """All that a stage which runs share is made from, and where they share it: the place's name tells all of it."""
        state = self.state.narrowed(settings, splits)
        device, generator, task = state.student.device, state.generator, state.task
        needs = {
            "settings": vars(state.settings),
            "words": sha256(prompts_file(state.settings.prompts)),
            "classes": task.label_names,
            "truth_known": task.world is not None,
            "rows": {split: getattr(task, split).to_dict() for split in splits},
            "weights": {role: digest for role, digest in self.inputs.items() if role.endswith("_weights")},
            "reference": generator and generator.reference,
            "precision": resolved_precision(state.settings.precision, device),
            "made_by": machine(device) | {"versions": versions(), "code": code_digest()},
        }
        return state, shared_folder(self.folder, name, needs)

    def calibrate(self) -> None:
        """What all label beliefs of the run are calibrated by, where `calibration` asks for it."""
        state, name = self.state, "calibration-0"
        if not _calibrates(state.settings):
            return
        asked, shared = self.shared(name, WRITES, ("pool",) * (state.settings.calibration == "pool"))

        def make(out: Path) -> dict:
            found = reference(asked, out)
            counts = {"generation": 0, "step": "calibration", **asked.counts}
            return {"rows": [], "reference": found, "writing_counts": counts}

        self.stage(name, make, shared=shared)
        state.generator = replace(state.generator, reference=self.results[-1]["reference"])

    def begin(self) -> None:
        """The Student before the first lesson; after train_size real rows under `recursive_start: warm`."""
        name, settings = "student-0", self.state.settings
        warm = settings.method == "recursive" and settings.recursive_start == "warm"
        splits = ("dev", "test", *["train"] * warm)
        state, shared = self.shared(name, EVALUATES + LEARNS * warm, splits)

        def make(out: Path) -> dict:
            if warm:
                lesson = as_labelled(state.task.train, "real", 0)
                state.student.learn(lesson, seed=state.seed(0, "student"))
                state.student.save(out / "model")
            if state.generator is None:
                return {"rows": evaluation(state, 0)}
            return {"rows": [*evaluation(state, 0), _generator_accuracy(state, 0)], "labeller": report(state)}

        self._take_student(self.stage(name, make, shared=shared))

    def write_lesson(self, generation: int) -> None:
        """Step A: the lesson of this generation."""
        state, path = self.state, self.folder / "lessons" / f"gen-{generation}.parquet"

        def make(out: Path) -> dict:
            state.counts = Counter()
            lesson = next_lesson(state, generation)
            save_lesson(lesson, path)
            if state.counts["cut"]:
                asked = f"{state.counts['cut']} of {state.counts['asked']} texts"
                tqdm.write(f"lesson {generation}: {asked} stopped at max_new_tokens; they are taught without an end")
            for name, rows in (("so_far", state.accumulated), ("written", state.written)):
                if rows is not None:
                    save_lesson(rows, out / f"{name}.parquet")
            told = {"generation": generation, "step": "lesson", "rows": len(lesson)}
            values = whole_lesson(lesson["text"][:], lesson["label"][:], state.task.world)
            rows = [metric(generation, f"lesson_{k}", value, "share", len(lesson)) for k, value in values.items()]
            return {"rows": rows, "writing_counts": {**told, **state.counts, **_purity(lesson, state.task)}}

        made = self.stage(f"lesson-{generation}", make, path)
        state.lesson = load_lesson(path)
        state.first_lesson = state.first_lesson or state.lesson
        state.taught |= set(state.lesson["source_id"])
        if (made / "so_far.parquet").exists():
            state.accumulated = load_lesson(made / "so_far.parquet")
        if (made / "written.parquet").exists():
            state.written = load_lesson(made / "written.parquet")

    def train_student(self, generation: int) -> float:
        """Step B, and how well the Student does after it: its test accuracy."""
        state = self.state

        def make(out: Path) -> dict:
            history = state.student.learn(state.lesson, seed=state.seed(generation, "student"))
            state.student.save(out / "model")
            rows, n = evaluation(state, generation), len(state.lesson) * state.settings.epochs
            for name in ("label_loss", "lm_loss"):
                mean = float(np.mean([step[name] for step in history]))
                rows.append(metric(generation, f"train_{name}", mean, UNITS[name], n))
            return {"rows": rows, "history": history}

        self._take_student(self.stage(f"student-{generation}", make))
        return next(row["value"] for row in self.results[-1]["rows"] if row["metric"] == "accuracy")

    def teach_generator(self, generation: int) -> None:
        """Step C, and step D where the Generator is updated."""
        state, settings = self.state, self.state.settings

        def make(out: Path) -> dict:
            state.counts, rows, history, other = Counter(), [], [], None
            if settings.feedback_student != "own":
                other = initial_student(settings, state.task)
            if settings.feedback_student == "foreign":
                other = teach_another(state, other, generation)
            state.hard = mine_hard_texts(state, generation, other)
            if settings.generator_update not in ("none", "teach"):
                state.hard, history = update_generator(state, generation)
                state.generator.lm.save(out / "model")
                rows = [_generator_accuracy(state, generation), _generator_kl(state, generation)]
            state.hard.to_parquet(out / "hard.parquet")
            counts = {"generation": generation, "step": "teach", **state.counts}
            return {"rows": rows, "history": history, "writing_counts": counts}

        made = self.stage(f"teach-{generation}", make)
        state.hard = load_lesson(made / "hard.parquet")
        if (made / "model").is_dir():
            state.generator = self._generator(made)

    def teach_to_write(self, generation: int) -> None:
        """Step D by `teach`: rounds in which the Generator learns to write what the Student of this generation lacks.

        Every round is a stage and keeps its weights until the run is finished: the next one begins with them, and
        `teach_snapshots: mixture` writes with some of them.
        """
        state, settings = self.state, self.state.settings
        frozen = replace(state.generator, lm=load_initial("generator", settings))
        names, made = _rounds(settings, generation), []
        for k, name in enumerate(names, 1):

            def make(out: Path, k: int = k, name: str = name) -> dict:
                told = teach_round(state, frozen, generation, k)
                state.generator.lm.save(out / "model")
                tqdm.write(f"{name} of {len(names)}: {told_in_a_line(told)}")
                counts = {"generation": generation, "step": "round", "round": k, **cost(told)}
                rows = [_generator_kl(state, generation)] if k == len(names) else []
                return {"rows": rows, "history": [told], "writing_counts": counts}

            made.append(self.stage(name, make))
            state.generator = self._generator(made[-1])
        if settings.teach_snapshots == "mixture":
            state.writers = [self._generator(made[k - 1]) for k in snapshots(len(made))]

    def _take_student(self, made: Path) -> None:
        """The weights this stage left, if any."""
        if (made / "model").is_dir():
            self.state.student = self.state.student.load(made / "model")

    def _generator(self, made: Path) -> Generator:
        """The Generator with the weights this stage left."""
        lm = loading.load(str(made / "model"), device=self.state.settings.device)
        return replace(self.state.generator, lm=lm)

    @cached_property
    def inputs(self) -> dict:
        """What the run is made from: the task's texts, and which initial weights these really are."""
        task, state = self.state.task, self.state
        inputs = {"task": task.fingerprint, "task_source": task.source, "overlap": task.overlap}
        inputs |= {"data": task.data, "classes": task.label_names}
        models = {"student": state.student, "generator": state.generator}
        named = [loading.named_weights(role, one.folder) for role, one in models.items() if one]
        return inputs | {key: value for marks in named for key, value in marks.items()}


# --- rows ----------------------------------------------------------------------------------------------------------


def evaluation(state: LoopState, generation: int) -> list[dict]:
    """Final numbers on test; dev accuracy beside them. Nothing here flows back into the run."""
    task, student = state.task, state.student
    test = student.evaluate(task.test)
    right = student.label_log_probs(task.dev["text"]).argmax(1) == np.array(task.dev["label"])
    rows = [
        metric(generation, "accuracy", float(test["correct"].mean()), "share", len(task.test)),
        metric(generation, "dev_accuracy", float(right.mean()), "share", len(task.dev)),
        metric(generation, "label_loss", float(test["label_loss"].mean()), "nats", len(task.test)),
        metric(generation, "lm_loss", float(test["lm_loss"].mean()), "nats/token", len(task.test)),
    ]
    if task.world is not None:
        tail = task.world.in_tail(task.test["text"])
        in_tail = float(test["correct"][tail].mean()) if tail.any() else math.nan
        rows.append(metric(generation, "accuracy_tail", in_tail, "share", int(tail.sum())))
        rows += _hidden_states(state, generation, tail) if state.settings.probe_hidden_states else []
    return rows


def _hidden_states(state: LoopState, generation: int, in_tail: np.ndarray) -> list[dict]:
    """Hidden states on familiar and rare test texts; at generation 0 those of a random Student of this shape, too."""
    models, rows = {"": state.student.lm}, []
    if generation == 0:
        random = random_model(state.student.lm.model, state.settings.seed)
        models["random_"] = state.student.lm._replace(model=random)
    enough = min(in_tail.sum(), (~in_tail).sum()) >= 2  # texts of each kind, else there is nothing to compare
    for name, lm in models.items():
        measures = probe(lm, state.task.test["text"][:], in_tail, state.settings) if enough else dict(NOT_PROBED)
        n = measures.pop("n")
        rows += [metric(generation, name + measure, value, "1", n) for measure, value in measures.items()]
    return rows


def _generator_accuracy(state: LoopState, generation: int) -> dict:
    """How well the Generator labels the test texts: what its Student could at most be told."""
    test = state.task.test
    right = state.generator.label_log_probs(test["text"]).argmax(1) == np.array(test["label"])
    return metric(generation, "generator_accuracy", float(right.mean()), "share", len(test))


def _generator_kl(state: LoopState, generation: int) -> dict:
    """How far step D has moved the Generator from where it began."""
    initial = load_initial("generator", state.settings)
    kl = state.generator.kl_to(initial, n=DRIFT_TEXTS, seed=state.seed(generation, "drift"))
    return metric(generation, "generator_kl", kl, "nats/token", DRIFT_TEXTS)


def _purity(lesson, task: Task) -> dict[str, float]:
    """Where the truth is known: the share of each kind of rows whose most probable true class is their label."""
    if task.world is None:
        return {}
    right = pd.Series(labels_right(lesson["text"], lesson["label"], task.world))
    return {f"purity_{k}": round(float(v), 4) for k, v in right.groupby(lesson["prompt_kind"][:]).mean().items()}
