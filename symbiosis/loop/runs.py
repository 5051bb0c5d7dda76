"""Run a method: generation by generation, stage by stage, atomic, resumable, recorded.

A stage (evaluate, lesson, student, teach) writes into a temporary folder that is renamed when complete; a killed run
continues at the first stage that is missing or not as its checksums say (symbiosis/store/README.md).
Randomness is derived from (seed, generation, stage), so a continued run gives the numbers of an unbroken one.
"""

import functools
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from symbiosis.data.lesson import load_lesson, save_lesson
from symbiosis.data.task import Task, load_task
from symbiosis.loop import methods
from symbiosis.loop.methods import NEEDS_GENERATOR, Actors
from symbiosis.loop.teaching import kl_to_initial
from symbiosis.measures.lessons import labels_right, whole_lesson
from symbiosis.models import loading
from symbiosis.models.devices import claim
from symbiosis.models.generation import require_engine
from symbiosis.models.hidden_states import inside, random_model
from symbiosis.models.scoring import evaluate
from symbiosis.models.training import train_student
from symbiosis.pretrain.initial import cache_key, initial_model_folder
from symbiosis.settings import RunSettings
from symbiosis.store.record import Made, run_once
from symbiosis.store.stages import invalidate, metric, stage

UNITS = {"accuracy": "share", "label_loss": "nats", "lm_loss": "nats/token"}


def run(settings: RunSettings) -> pd.DataFrame:
    """The rows of a run: read where it is finished, continued where it stopped, begun where it is new."""
    keys = {role: cache_key(role, settings) for role in _roles(settings)}
    inputs = {role: key for role, key in keys.items() if key}
    return run_once(settings, inputs, lambda folder: _run_all(folder, settings))


def _roles(settings: RunSettings) -> tuple[str, ...]:
    return ("student", "generator") if settings.method in NEEDS_GENERATOR else ("student",)


def prepare(settings: RunSettings, task: Task | None = None) -> Actors:
    """Task, initial Student and (where the method has one) Generator, as every method of this seed starts with them."""
    require_engine(settings)
    loading.use_threads(settings.threads)
    if settings.device != "cpu":
        claim(settings.num_processes, wait=True)
    actors = Actors(settings, task or load_task(settings), *_load_base("student", settings))
    actors.bases |= _which("student", actors.student)
    if settings.method in NEEDS_GENERATOR:
        actors.generator, actors.generator_tokenizer = _load_base("generator", settings)
        actors.bases |= _which("generator", actors.generator)
    return actors


def _load_base(role: str, settings: RunSettings):
    folder, revision = initial_model_folder(role, settings), getattr(settings, f"{role}_revision")
    return loading.load(folder, revision, device=settings.device)


def _which(role: str, model) -> dict[str, str]:
    """The folder's name (of a hub model its own, with the commit that was really resolved) and what is in it."""
    folder = Path(model.config._name_or_path)
    name = f"{folder.parts[-3]}@{folder.name}" if folder.parent.name == "snapshots" else folder.name
    return {role: name, f"{role}_weights": loading.weights_digest(folder)}


def _run_all(folder: Path, settings: RunSettings) -> Made:
    actors = prepare(settings)
    state = folder / "state"
    invalidate(state, stage_names(settings))
    results = [stage(state, "student-0", lambda out: _generation_zero(actors, out))]
    _restore_student(actors, state / "student-0")
    bar = tqdm(range(1, settings.generations + 1), desc=settings.run_id)
    for generation in bar:
        taught = folder / "lessons" / f"gen-{generation}.parquet"
        make = functools.partial(_lesson, actors, generation, taught)
        lesson = stage(state, f"lesson-{generation}", make, also=[taught])
        actors.previous = load_lesson(taught)
        _restore_rows(actors, state / f"lesson-{generation}")
        student = stage(state, f"student-{generation}", lambda out, g=generation: _student(actors, g, out))
        _restore_student(actors, state / f"student-{generation}")
        results += [lesson, student]
        if settings.needs_feedback and generation < settings.generations:
            results.append(stage(state, f"teach-{generation}", lambda out, g=generation: _teach(actors, g, out)))
            _restore_teaching(actors, state / f"teach-{generation}")
        tqdm.write(f"{settings.run_id} generation {generation}: accuracy {_value(student, 'accuracy'):.3f}")
    task = actors.task
    inputs = {"task": task.fingerprint, "task_source": task.source, "overlap": task.overlap, **actors.bases}
    counts = [result["writing_counts"] for result in results if "writing_counts" in result]
    return results, actors.student.device, {"inputs": inputs, "writing_counts": counts}


# --- stages --------------------------------------------------------------------------------------------------------


def stage_names(settings: RunSettings) -> list[str]:
    """The stages of a run, in the order in which they are made."""
    names = ["student-0"]
    for generation in range(1, settings.generations + 1):
        names += [f"lesson-{generation}", f"student-{generation}"]
        if settings.needs_feedback and generation < settings.generations:
            names.append(f"teach-{generation}")
    return names


def _generation_zero(actors: Actors, out: Path) -> dict:
    """The Student before the first lesson; after train_size real rows under `recursive_start: warm`."""
    settings = actors.settings
    if settings.method == "recursive" and settings.recursive_start == "warm":
        lesson = methods.real_rows(actors, len(actors.task.train), 0)
        student, seed = (actors.student, actors.student_tokenizer), actors.seed(0, "student")
        train_student(*student, lesson, actors.task.label_names, settings, seed=seed)
        loading.save(actors.student, actors.student_tokenizer, out / "model")
    labels_well = _generator_rows(actors, 0) if settings.method in NEEDS_GENERATOR else []
    return {"rows": _evaluation(actors, 0) + labels_well}


def _lesson(actors: Actors, generation: int, path: Path, out: Path) -> dict:
    actors.counts = Counter()
    lesson = methods.lesson(actors, generation)
    save_lesson(lesson, path)
    if actors.so_far is not None:
        save_lesson(actors.so_far, out / "so_far.parquet")
    known = {"generation": generation, "step": "lesson", "rows": len(lesson)}
    counts = {**known, **actors.counts, **_truth(lesson, actors)}
    return {"rows": lesson_rows(lesson, actors, generation), "writing_counts": counts}


def _student(actors: Actors, generation: int, out: Path) -> dict:
    task, settings = actors.task, actors.settings
    student, seed = (actors.student, actors.student_tokenizer), actors.seed(generation, "student")
    history = train_student(*student, actors.previous, task.label_names, settings, seed=seed)
    loading.save(actors.student, actors.student_tokenizer, out / "model")
    rows = _evaluation(actors, generation)
    for name in ("label_loss", "lm_loss"):
        mean = float(np.mean([step[name] for step in history]))
        rows.append(metric(generation, f"train_{name}", mean, UNITS[name], len(actors.previous) * settings.epochs))
    return {"rows": rows, "history": history}


def _teach(actors: Actors, generation: int, out: Path) -> dict:
    """Step C, and step D where the Generator is updated."""
    settings, rows, history = actors.settings, [], []
    actors.counts = Counter()
    foreign = None
    if settings.feedback_student == "foreign":
        foreign = methods.teach_foreign(actors, _load_base("student", settings)[0], generation)
    actors.hard = methods.step_c(actors, generation, foreign)
    if settings.generator_update != "none":
        actors.hard, history = methods.step_d(actors, generation)
        loading.save(actors.generator, actors.generator_tokenizer, out / "model")
        rows = [*_generator_rows(actors, generation), _drift(actors, generation)]
    actors.hard.to_parquet(out / "hard.parquet")
    counts = {"generation": generation, "step": "teach", **actors.counts}
    return {"rows": rows, "history": history, "writing_counts": counts}


def _restore_rows(actors: Actors, folder: Path) -> None:
    """The new rows of all generations, where the run keeps them."""
    if (folder / "so_far.parquet").exists():
        actors.so_far = load_lesson(folder / "so_far.parquet")


def _restore_student(actors: Actors, folder: Path) -> None:
    """The weights this stage left, if any."""
    if (folder / "model").is_dir():
        actors.student, _ = loading.load(str(folder / "model"), device=actors.settings.device)


def _restore_teaching(actors: Actors, folder: Path) -> None:
    actors.hard = load_lesson(folder / "hard.parquet")
    if (folder / "model").is_dir():
        actors.generator, _ = loading.load(str(folder / "model"), device=actors.settings.device)


# --- rows ----------------------------------------------------------------------------------------------------------


def _evaluation(actors: Actors, generation: int) -> list[dict]:
    """Final numbers on test; dev accuracy beside them. Nothing here flows back into the run."""
    task, settings = actors.task, actors.settings
    scores = {name: evaluate(actors.student, actors.student_tokenizer, split, task.label_names, settings)
              for name, split in (("test", task.test), ("dev", task.dev))}  # fmt: skip
    test = scores["test"]
    rows = [
        metric(generation, "accuracy", float(test["correct"].mean()), "share", len(task.test)),
        metric(generation, "dev_accuracy", float(scores["dev"]["correct"].mean()), "share", len(task.dev)),
        metric(generation, "label_loss", float(test["label_loss"].mean()), "nats", len(task.test)),
        metric(generation, "lm_loss", float(test["lm_loss"].mean()), "nats/token", len(task.test)),
    ]
    if task.world is not None:
        tail = task.world.in_tail(task.test["text"])
        rows.append(metric(generation, "accuracy_tail", float(test["correct"][tail].mean()), "share", int(tail.sum())))
        rows += _inside(actors, generation, tail) if settings.inside else []
    return rows


def _inside(actors: Actors, generation: int, in_tail: np.ndarray) -> list[dict]:
    """Hidden states on familiar and rare test texts; at generation 0 those of a random Student of this shape, too."""
    students = {"": actors.student}
    if generation == 0:
        students["random_"] = random_model(actors.student, actors.settings.seed)
    rows, texts = [], actors.task.test["text"][:]
    for name, student in students.items():
        found = inside(student, actors.student_tokenizer, texts, in_tail, actors.settings)
        n = found.pop("n")
        rows += [metric(generation, name + measure, value, "1", n) for measure, value in found.items()]
    return rows


def _generator_rows(actors: Actors, generation: int) -> list[dict]:
    """How well the Generator labels the test texts: what its Student could at most be told."""
    test = actors.task.test
    right = actors.teacher.beliefs(test["text"]).argmax(1) == np.array(test["label"])
    return [metric(generation, "generator_accuracy", float(right.mean()), "share", len(test))]


DRIFT_TEXTS = 64


def _drift(actors: Actors, generation: int) -> dict:
    """How far step D has moved the Generator from where it began."""
    initial, _ = _load_base("generator", actors.settings)
    kl = kl_to_initial(actors.teacher, initial, n=DRIFT_TEXTS, seed=actors.seed(generation, "drift"))
    return metric(generation, "generator_kl", kl, "nats/token", DRIFT_TEXTS)


def _truth(lesson, actors: Actors) -> dict[str, float]:
    """Where the truth is known: the share of each kind of rows whose most probable true class is their label."""
    if actors.task.world is None:
        return {}
    right = pd.Series(labels_right(lesson["text"], lesson["label"], actors.task.world))
    return {f"purity_{k}": round(float(v), 4) for k, v in right.groupby(lesson["prompt_kind"][:]).mean().items()}


def lesson_rows(lesson, actors: Actors, generation: int) -> list[dict]:
    """What a lesson is like: variety for every task; purity and tails where the true distribution is known."""
    values = whole_lesson(lesson["text"][:], lesson["label"][:], actors.task.world)
    return [metric(generation, f"lesson_{name}", value, "share", len(lesson)) for name, value in values.items()]


def _value(result: dict, name: str) -> float:
    return next(row["value"] for row in result["rows"] if row["metric"] == name)
