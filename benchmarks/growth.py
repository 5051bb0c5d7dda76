"""How cost grows: every stage with its texts, the loop with its generations, K models that read each other with K.

    python benchmarks/growth.py                             # up to 100,000 texts scored: ten minutes of one core
    python benchmarks/growth.py --stages self-BLEU write    # the others' rows stay in the table

    seconds ~ size^exponent:   least squares of log seconds on log size, with its 95% interval

Shapes are the tiny ones of benchmarks/loop.py, and so is all else but the sizes: random weights, texts as long as news,
precision and batches of params/paper.yaml. Every size is a run of its own, in turns. What is measured:

    find hard texts      step C, all of the pool scored                                    pool: 1,000 to 100,000 texts
    train the Student    step B, one epoch                                                 lesson: 100 to 800 rows
    write                step A: texts from their label alone, and their labels            lesson: 100 to 800 rows
    self-BLEU            of all texts, each against the others                             1,000 to 8,000 texts
    loop, replace        symbiosis.loop.runs.run: lessons of 32 rows, step A to D               1 to 8 generations
    loop, accumulate     the same; a lesson keeps the rows of all before it                1 to 8 generations
    interaction, K       symbiosis.interaction.run: 2 rounds, 32 rows read by each         2 to 8 entities
    interaction, rounds  the same with two entities; round 0, which nobody writes for, is counted    2 to 8 rounds

Of a run, the functions that take its time are told apart. To expect: 1 nearly everywhere; K (K + 1) where each of K
entities is measured on each of K + 1 tasks, which is an exponent of 1.8 from 2 to 8; T (T + 1) / 2 for training on
lessons that accumulate, which is one of 1.7 from 1 to 8. Less says that a fixed cost is still seen at these sizes. The
loop's first lesson explains nothing, so writing grows with an exponent above 1.
"""

import gc
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import common
import loop
import numpy as np
import pandas as pd
from datasets import Dataset
from scipy import stats

from symbiosis import interaction
from symbiosis.data.lesson import make_lesson
from symbiosis.loop import methods, runs
from symbiosis.loop.state import LoopState
from symbiosis.measures import diversity
from symbiosis.models import loading
from symbiosis.settings import InteractionSettings, RunSettings, make_settings, resolve

TABLE = "growth.csv"
SIZES = {
    "lesson_size": 32, "pool_size": 128, "hard_examples": 16, "test_size": 32, "dev_size": 16, "train_size": 16,
    "max_new_tokens": 12,
}  # fmt: skip
TOLD_APART = {  # of an interaction: reading, writing (texts and answers), losses on every task
    "training": (interaction, "fit_texts"),
    "writing": (interaction, "generate"),
    "losses": (interaction, "text_losses"),
}
Work = Callable[[], dict[str, float]]  # seconds of what is told apart within


@dataclass
class Ground:
    """What every stage is measured on."""

    folder: Path
    settings: RunSettings
    state: LoopState
    texts: list[str]

    def new_folder(self) -> str:
        return tempfile.mkdtemp(dir=self.folder)


def ground(folder: Path, n_texts: int, device: str, sizes: dict[str, int]) -> Ground:
    settings = loop.prepare(folder, "tiny", device, **sizes)
    return Ground(folder, settings, runs.prepare(settings), common.texts(n_texts, np.random.default_rng(common.SEED)))


# --- the stages ----------------------------------------------------------------------------------------------------
def calling(function: Callable, *arguments, **more) -> Work:
    """The work of one call, in which nothing is told apart."""

    def work() -> dict[str, float]:
        function(*arguments, **more)
        return {}

    return work


def find_hard(on: Ground, n: int) -> Work:
    pool = Dataset.from_dict({"text": on.texts[:n], "source_id": [str(i) for i in range(n)]})
    settings = on.settings.model_copy(update={"scored_share": 1.0})
    state = replace(on.state, settings=settings, task=replace(on.state.task, pool=pool))
    return calling(methods.mine_hard_texts, state, 1)


def train_student(on: Ground, n: int) -> Work:
    lesson = make_lesson(on.texts[:n], on.state.balanced_labels(n), "real", 1, "real", [""] * n)
    student = replace(on.state.student, settings=on.settings.model_copy(update={"epochs": 1}))
    return calling(student.learn, lesson, seed=common.SEED)


def write(on: Ground, n: int) -> Work:
    return calling(methods.written, on.state, n, 1)


def self_bleu(on: Ground, n: int) -> Work:
    return calling(diversity.self_bleu, on.texts[:n])


def run_loop(on: Ground, turns: int, *, mixing: str) -> Work:
    """Whole turns, lesson to Generator: a run's last generation has no reason to update the Generator, so one more."""
    changed = {"generations": turns + 1, "mixing": mixing, "reports_dir": on.new_folder()}
    settings, parts = on.settings.model_copy(update=changed), ["write", "train the Student", "train the Generator"]
    return lambda: seconds_by_part(loop.run_stages(settings, last=f"teach-{turns}"), parts)


def interact(on: Ground, entities: int, generations: int) -> Work:
    """K private tasks and a public one, files of texts as long as news; 4 steps of 8 rows per round and entity."""
    place, tasks = Path(on.new_folder()), [f"task{k}" for k in range(entities + 1)]
    files = [place / f"{task}.jsonl" for task in tasks]
    for file, some in zip(files, np.array_split(on.texts[: 64 * len(tasks)], len(tasks)), strict=True):
        file.write_text("\n".join(json.dumps({"text": text}) for text in some))
    given = {
        "entities": entities, "generations": generations, "rows": 32, "written": 32, "train_size": 32, "test_size": 16,
        "private_tasks": ",".join(map(str, files[1:])), "public_task": str(files[0]), "reports_dir": str(place),
        "prompts": 4, "answers": 2, "steps": 4, "batch_size": 8, "student": on.settings.student,
        "max_new_tokens": on.settings.max_new_tokens, "max_length": on.settings.max_length, "generation_batch_size": 64,
        "precision": on.settings.precision, "device": on.settings.device,
    }  # fmt: skip
    settings = make_settings("growth", InteractionSettings, **given)
    return lambda: run_interaction(settings)


def run_interaction(settings: InteractionSettings) -> dict[str, float]:
    watch = loop.Watch(loading.pick_device(settings.device), TOLD_APART)
    with watch.on():
        interaction.run(settings)
    return seconds_by_part(watch.rows, list(TOLD_APART))


def seconds_by_part(rows: Sequence[dict], parts: Sequence[str]) -> dict[str, float]:
    spent = Counter()
    for row in rows:
        spent[row["way"]] += row["seconds"]
    return {part: spent[part] for part in parts}


@dataclass(frozen=True)
class Stage:
    """What grows: its name, how the work at a size is prepared, the sizes as quotients of the largest."""

    grows_with: str
    prepare: Callable[[Ground, int], Work]
    quotients: tuple[int, ...] = (8, 4, 2, 1)


STAGES = {
    "find hard texts": Stage("pool_size", find_hard, (100, 10, 1)),
    "train the Student": Stage("lesson_size", train_student),
    "write": Stage("lesson_size", write),
    "self-BLEU": Stage("lesson_size", self_bleu),
    "loop, replace": Stage("generations", lambda on, t: run_loop(on, t, mixing="replace")),
    "loop, accumulate": Stage("generations", lambda on, t: run_loop(on, t, mixing="accumulate")),
    "interaction, K": Stage("entities", lambda on, k: interact(on, k, generations=1), (4, 2, 1)),
    "interaction, rounds": Stage("rounds", lambda on, r: interact(on, 2, generations=r - 1), (4, 2, 1)),
}
LARGEST = dict(zip(STAGES, (100_000, 800, 800, 8_000, 8, 8, 8, 8), strict=True))


# --- what is measured ----------------------------------------------------------------------------------------------
def exponent(sizes: np.ndarray, seconds: np.ndarray) -> tuple[float, float, float]:
    """(slope, low, high) of log seconds on log size, both (n,): least squares, 95% interval by Student's t."""
    fit = stats.linregress(np.log(sizes), np.log(seconds))
    half = stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def turns(on: Ground, stage: str, sizes: Sequence[int], repeats: int) -> pd.DataFrame:
    """(part, size, seconds) of every size in every turn; the part '' is all of it."""
    STAGES[stage].prepare(on, sizes[0])()  # warm-up
    points = []
    for size in list(sizes) * repeats:
        work = STAGES[stage].prepare(on, size)
        gc.collect()
        began = common.clock(on.state.student.lm.device)
        parts = work()
        spent = {"": common.clock(on.state.student.lm.device) - began, **parts}
        points += [{"part": part, "size": size, "seconds": s} for part, s in spent.items()]
        print(f"{stage}, {STAGES[stage].grows_with} {size}: {spent['']:.4g} s", flush=True)
    return pd.DataFrame(points)


def measure(on: Ground, largest: dict[str, int], *, repeats: int) -> list[dict]:
    """Rows per stage of `largest`, whose numbers are its largest sizes: all of it, and what is told apart within."""
    rows = []
    for stage, last in largest.items():
        sizes = [last // q for q in STAGES[stage].quotients]
        for part, points in turns(on, stage, sizes, repeats).groupby("part", sort=False):
            slope, low, high = exponent(points["size"].to_numpy(), points["seconds"].to_numpy())
            seconds = float(points.loc[points["size"] == last, "seconds"].median())
            rows.append(
                {"stage": stage, "part": part, "shape": "tiny", "grows_with": STAGES[stage].grows_with}
                | {"smallest": sizes[0], "largest": last, "seconds_at_largest": seconds}
                | {"exponent": slope, "low": low, "high": high, "n": repeats}
                | common.about(on.state.student.lm.device)
            )  # fmt: skip
    return rows


def other_rows(path: str, stages: Sequence[str], device: str) -> list[dict]:
    """The table's rows of this device that are not of these stages."""
    if not resolve(path).is_file():
        return []
    table = pd.read_csv(resolve(path))
    return table[~table["stage"].isin(stages) & (table["device"] == device)].to_dict("records")


def main() -> None:
    parser = common.arguments(__doc__, with_model=False)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=list(STAGES), help="the others' rows stay as they are"
    )
    parser.add_argument("--pool", type=int, default=LARGEST["find hard texts"], help="texts of the largest pool")
    given = parser.parse_args()
    loading.use_threads(1)
    largest = {stage: n for stage, n in (LARGEST | {"find hard texts": given.pool}).items() if stage in given.stages}
    n_texts = max([1000, *(n for stage, n in largest.items() if STAGES[stage].grows_with.endswith("size"))])
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(ground(Path(folder), n_texts, given.device, SIZES), largest, repeats=given.repeats)
    path = f"{given.folder}/{TABLE}"
    rows += other_rows(path, given.stages, rows[0]["device"])
    common.write(path, sorted(rows, key=lambda row: list(STAGES).index(row["stage"])))


if __name__ == "__main__":
    main()
