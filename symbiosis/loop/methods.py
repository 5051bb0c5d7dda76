"""Each method as a short function that gives the lesson of a generation; what differs between methods is only here."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from symbiosis.data.lesson import make_lesson
from symbiosis.data.task import Task
from symbiosis.loop import teaching
from symbiosis.loop.feedback import Measured, find_hard, hard_count
from symbiosis.loop.influence import influence
from symbiosis.loop.mixing import kept_rows, real_count, real_positions, weak_labels
from symbiosis.loop.teaching import Taught, Teacher
from symbiosis.models.generation import generate
from symbiosis.models.loading import start_ids, token_ids
from symbiosis.models.scoring import student_beliefs
from symbiosis.models.training import train_student
from symbiosis.prompts import STUDENT_WRITE
from symbiosis.settings import RunSettings, derive_seed


@dataclass
class Actors:
    """Who takes part in a run, as they stand now."""

    settings: RunSettings
    task: Task
    student: Any
    student_tokenizer: Any
    generator: Any = None
    generator_tokenizer: Any = None
    hard: Dataset | None = None  # the pool texts step C found hard after the last lesson
    previous: Dataset | None = None  # the last lesson
    so_far: Dataset | None = None  # the new rows of every generation, where `mixing` asks for them
    bases: dict[str, str] = field(default_factory=dict)  # role -> which initial weights
    counts: Counter = field(default_factory=Counter)  # what the writers were asked and gave, since last emptied

    def seed(self, generation: int, stage: str) -> int:
        return derive_seed(self.settings.seed, generation, stage)

    def rng(self, generation: int, stage: str) -> np.random.Generator:
        return np.random.default_rng(self.seed(generation, stage))

    @property
    def dev_rows(self) -> int:
        return min(self.settings.dev_rows, len(self.task.dev))

    @property
    def real_rows(self) -> int:
        return real_count(self.settings.lesson_size - self.dev_rows, self.settings.real_share)

    @property
    def rows(self) -> int:
        """New rows of a generation that are the method's own; real and dev rows, where asked for, are the others."""
        return self.settings.lesson_size - self.dev_rows - self.real_rows

    @property
    def teacher(self) -> Teacher:
        return Teacher(self.generator, self.generator_tokenizer, self.task.label_names, self.settings, self.counts)

    def labels(self, n: int) -> np.ndarray:
        """n labels, as balanced as n allows."""
        return np.arange(n) % len(self.task.label_names)

    def names(self, labels) -> list[str]:
        return [self.task.label_names[i] for i in labels]


def lesson(actors: Actors, generation: int) -> Dataset:
    """What the Student is taught in this generation: its new rows, and what `mixing` keeps of those before."""
    new = new_rows(actors, generation)
    if actors.settings.mixing == "replace":
        return new
    before = [] if actors.so_far is None else [actors.so_far]
    actors.so_far = concatenate_datasets([*before, new])
    sizes = [*map(len, before), len(new)]
    return actors.so_far.select(kept_rows(sizes, actors.settings.mixing, actors.rng(generation, "mixing")))


def new_rows(actors: Actors, generation: int) -> Dataset:
    """The method's rows, a `real_share` of labelled real rows, and `dev_rows` labelled dev rows."""
    settings, parts = actors.settings, []
    if actors.rows:
        rows = LESSONS[settings.method](actors, generation)
        parts.append(corrected(actors, rows, generation) if settings.weak_accuracy else rows)
    if n := actors.real_rows:
        train = actors.task.train
        chosen = real_positions(n, generation, len(train), fixed=settings.real_rows == "fixed")
        parts.append(_labelled_split(train.select(chosen), "real", generation))
    if n := actors.dev_rows:
        chosen = actors.rng(generation, "dev").permutation(len(actors.task.dev))[:n]
        parts.append(_labelled_split(actors.task.dev.select(chosen), "dev", generation))
    return concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def real(actors: Actors, generation: int) -> Dataset:
    """Labelled real rows, new ones every generation until the train split starts over: the upper bound."""
    return real_rows(actors, actors.rows, generation)


def static(actors: Actors, generation: int) -> Dataset:
    """One lesson written by the untouched Generator, taught again every generation."""
    before = actors.previous if actors.so_far is None else actors.so_far
    if before is None:
        return written(actors, actors.rows, generation)
    of_generator = [kind == "write" for kind in before["prompt_kind"]]
    return before.select(np.flatnonzero(of_generator)[: actors.rows])


def recursive(actors: Actors, generation: int) -> Dataset:
    """Every lesson is written by the Student of the generation before. Duplicates stay: they are the collapse."""
    settings, tokenizer = actors.settings, actors.student_tokenizer
    labels = actors.labels(actors.rows)
    prompts = [
        start_ids(tokenizer) + ids
        for ids in token_ids(tokenizer, [STUDENT_WRITE.format(label=n) for n in actors.names(labels)])
    ]

    def draw(rows, seed, samples):
        what = "the Student writes"
        return generate(actors.student, tokenizer, rows, settings, seed=seed, samples=samples, what=what)

    texts = teaching.fresh_texts(
        draw, prompts, settings, actors.seed(generation, "write"), actors.counts, keep_duplicates=True
    )
    return make_lesson(texts, labels, "student", generation, "student_write", [""] * len(texts))


def pseudo_label(actors: Actors, generation: int) -> Dataset:
    """Random pool texts with the Generator's labels: no text is generated at all."""
    pool, n = actors.task.pool, actors.rows
    rng = actors.rng(generation, "pool")
    rows = pool.select(np.concatenate([rng.permutation(len(pool)) for _ in range(-(-n // len(pool)))])[:n])
    return labelled(actors, rows, n, generation)


def symbiosis(actors: Actors, generation: int) -> Dataset:
    """Step A: `pool_share` of the rows are what the last Student found hard, with the Generator's labels,
    `teaching_share` explain it, and the rest is written from the label alone.

    Before any feedback, all is written, or `first_sources` are random pool texts.
    """
    settings, n = actors.settings, actors.rows
    sources = actors.hard
    if sources is None and settings.first_sources == "random":
        sources = random_sources(actors, generation)
    if sources is None:
        return written(actors, n, generation)
    n_explain, n_label = round(settings.teaching_share * n), round(settings.pool_share * n)
    parts = {labelled: n_label, explained: n_explain}
    lessons = [part(actors, sources, rows, generation) for part, rows in parts.items() if rows]
    rest = n - n_explain - n_label
    return concatenate_datasets(lessons + ([written(actors, rest, generation)] if rest else []))


def world(actors: Actors, generation: int) -> Dataset:
    """New texts of the known world: a writer of dialled diversity (`subtopic_power`) and quality (`label_noise`).

    p(subtopic) ~ (true share)^subtopic_power; given its subtopic a text is exactly as the world writes it.
    """
    settings, truth, n = actors.settings, actors.task.world, actors.rows
    rng = actors.rng(generation, "world")
    shares = (truth.shares / truth.shares.max()) ** settings.subtopic_power  # the largest stays 1, whatever the power
    drawn = truth.sample(n, rng, labels=rng.permutation(actors.labels(n)), shares=shares / shares.sum())
    labels = weak_labels(drawn["label"].to_numpy(), 1 - settings.label_noise, len(actors.task.label_names), rng)
    return make_lesson(drawn["text"].tolist(), labels, "world", generation, "world", [""] * n)


LESSONS: dict[str, Callable[[Actors, int], Dataset]] = {
    "real": real, "static": static, "recursive": recursive, "pseudo_label": pseudo_label, "symbiosis": symbiosis,
    "world": world,
}  # fmt: skip
NEEDS_GENERATOR = ("static", "pseudo_label", "symbiosis")


# --- rows of a lesson ----------------------------------------------------------------------------------------------


def real_rows(actors: Actors, n: int, generation: int) -> Dataset:
    """Rows (generation-1)n .. of the labelled train split, which starts over when it is used up."""
    train = actors.task.train
    return _labelled_split(train.select(real_positions(n, generation, len(train), fixed=False)), "real", generation)


def _labelled_split(rows: Dataset, kind: str, generation: int) -> Dataset:
    return make_lesson(rows["text"], rows["label"], "real", generation, kind, rows["source_id"])


def corrected(actors: Actors, rows: Dataset, generation: int) -> Dataset:
    """Rows whose reader (the Generator, else the Student) sees another label get one from a weak labeller."""
    labels, texts = np.array(rows["label"]), rows["text"]
    student, names = (actors.student, actors.student_tokenizer), actors.task.label_names
    beliefs = (
        actors.teacher.beliefs(texts) if actors.generator else student_beliefs(*student, texts, names, actors.settings)
    )
    rejected = np.flatnonzero(beliefs.argmax(1) != labels)
    truth = actors.task.world.posterior([texts[i] for i in rejected]).argmax(1)
    rng = actors.rng(generation, "weak")
    labels[rejected] = weak_labels(truth, actors.settings.weak_accuracy, len(names), rng)
    actors.counts["rejected"] += len(rejected)
    return (
        rows.remove_columns("label").add_column("label", labels).cast(rows.features).select_columns(rows.column_names)
    )


def written(actors: Actors, n: int, generation: int) -> Dataset:
    """n texts the Generator writes from balanced labels."""
    taught = teaching.write(actors.teacher, actors.labels(n), seed=actors.seed(generation, "write"))
    return as_lesson(actors, taught, "generator", generation, "write", [""] * n)


def explained(actors: Actors, sources: Dataset, n: int, generation: int) -> Dataset:
    """n texts that explain the sources in turn."""
    sources = in_turn(sources, n)
    taught = teaching.explain(actors.teacher, sources["text"], seed=actors.seed(generation, "explain"))
    return as_lesson(actors, taught, "generator", generation, "explain", sources["source_id"])


def labelled(actors: Actors, sources: Dataset, n: int, generation: int) -> Dataset:
    """n sources, in turn, with the Generator's labels."""
    sources = in_turn(sources, n)
    taught = teaching.label(actors.teacher, sources["text"])
    return as_lesson(actors, taught, "real", generation, "label", sources["source_id"])


def as_lesson(actors: Actors, taught: Taught, origin: str, generation: int, kind: str, source_ids) -> Dataset:
    """Lesson rows with the Generator's label, or its belief in every label under `soft_labels`."""
    soft = taught.beliefs if actors.settings.soft_labels else None
    return make_lesson(taught.texts, taught.labels, origin, generation, kind, source_ids, label_probs=soft)


def in_turn(sources: Dataset, n: int) -> Dataset:
    return sources.select(np.arange(n) % len(sources))


def random_sources(actors: Actors, generation: int) -> Dataset:
    """As many random pool texts as step C would call hard."""
    pool = actors.task.pool
    n = hard_count(len(pool), actors.settings)
    return pool.select(actors.rng(generation, "sources").permutation(len(pool))[:n])


# --- steps C and D -------------------------------------------------------------------------------------------------


def step_c(actors: Actors, generation: int, foreign: Any = None) -> Dataset:
    """What the Student (this one, or `foreign`) finds hard in the unlabeled pool."""
    by = Measured(
        foreign or actors.student, actors.student_tokenizer, actors.generator, actors.generator_tokenizer,
        actors.task.label_names, actors.task.dev, actors.previous, actors.settings, actors.rng(generation, "feedback"),
    )  # fmt: skip
    return find_hard(by, actors.task.pool)


def teach_foreign(actors: Actors, student: Any, generation: int) -> Any:
    """An initial Student that becomes another one, in place: as many lessons as this one has had, other ones.

    They are written by the Generator with random states of another seed, from the label alone.
    """
    other = Actors(
        actors.settings.model_copy(update={"seed": derive_seed(actors.settings.seed, 0, "foreign")}), actors.task,
        student, actors.student_tokenizer, actors.generator, actors.generator_tokenizer,
    )  # fmt: skip
    for g in range(1, generation + 1):
        rows = written(other, other.settings.lesson_size, g)
        names, seed = actors.task.label_names, other.seed(g, "student")
        train_student(student, actors.student_tokenizer, rows, names, other.settings, seed=seed)
    return student


def step_d(actors: Actors, generation: int) -> tuple[Dataset, list[dict]]:
    """The Generator learns to teach actors.hard by `generator_update`; its weights change in place.

    Returns actors.hard, with a column `explanation` where one was written for each, and the losses per step.
    """
    update, hard, seed = actors.settings.generator_update, actors.hard, actors.seed(generation, "teach")
    if update == "sft":
        explanations, history = teaching.learn_own(actors.teacher, hard["text"], seed=seed)
        return hard.add_column("explanation", explanations), history
    if update == "pool_lm":
        return hard, teaching.learn_pool(actors.teacher, hard["text"], seed=seed)
    drafts = teaching.explanations(actors.teacher, hard["text"], seed=seed)
    scores = helpfulness(actors, drafts, generation)
    learn = {"influence": teaching.learn_helpful, "dpo": teaching.learn_preferences}[update]
    return hard, learn(actors.teacher, hard["text"], drafts, scores, seed=seed)


def helpfulness(actors: Actors, texts: list[str], generation: int) -> np.ndarray:
    """(n,) first-order change of the Student's dev loss from each text with the Generator's label; negative helps."""
    taught = teaching.label(actors.teacher, texts)
    rows = as_lesson(actors, taught, "generator", generation, "explain", [""] * len(texts))
    student, seed = (actors.student, actors.student_tokenizer), actors.seed(generation, "influence")
    names = actors.task.label_names
    return influence(*student, rows, actors.previous, actors.task.dev, names, actors.settings, seed=seed)
