"""Each method as a short function that gives the lesson of a generation; what differs between methods is only here."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from datasets import Dataset, concatenate_datasets

from symbiosis.data.lesson import make_lesson, texts_of
from symbiosis.loop import teaching
from symbiosis.loop.feedback import hard_count, hardest
from symbiosis.loop.influence import Influence
from symbiosis.loop.mixing import held_rows, kept_rows, real_count, real_positions, weak_labels
from symbiosis.loop.retrieval import most_alike
from symbiosis.loop.state import LoopState, cycle
from symbiosis.loop.teaching import LabeledTexts
from symbiosis.models.generation import generate
from symbiosis.models.sampling import Sampling
from symbiosis.models.student import Student
from symbiosis.settings import EDITS, derive_seed

Method = Callable[[LoopState, int, int], Dataset]  # (state, generation, n) -> n rows
METHODS: dict[str, Method] = {}
HELD_DRAFTS = 3  # rows a method gives for each that is kept under `held_power`
NEEDS_GENERATOR: set[str] = set()


def method(name: str, *, needs_generator: bool = False) -> Callable[[Method], Method]:
    """Register a method under the name that `method:` gives it."""

    def register(function: Method) -> Method:
        METHODS[name] = function
        if needs_generator:
            NEEDS_GENERATOR.add(name)
        return function

    return register


def next_lesson(state: LoopState, generation: int) -> Dataset:
    """What the Student is taught in this generation: its new rows, and what `mixing` keeps of those before."""
    new = new_rows(state, generation)
    if state.settings.mixing in ("replace", *EDITS):
        return new
    before = [] if state.accumulated is None else [state.accumulated]
    state.accumulated = concatenate_datasets([*before, new])
    sizes = [*map(len, before), len(new)]
    return state.accumulated.select(kept_rows(sizes, state.settings.mixing, state.rng(generation, "mixing")))


def new_rows(state: LoopState, generation: int) -> Dataset:
    """The method's rows, a `real_share` of labelled real rows, and `dev_rows` labelled dev rows.

    Where `dev_rows_as` asks for it, explanations of dev rows take the place of the method's rows, or of a share of
    them, see `explained_dev`.
    """
    settings, task, parts = state.settings, state.task, []
    taught, prompts = dev_positions(state, generation)
    n_dev = len(taught)
    n_real = real_count(settings.lesson_size - n_dev, settings.real_share)
    n = settings.lesson_size - n_dev - n_real
    n_explained = round(settings.dev_prompts_share * n) if len(prompts) else 0
    if n_own := n - n_explained:
        rows = METHODS[settings.method](state, generation, n_own * (HELD_DRAFTS if settings.held_power else 1))
        rows = held(state, rows, n_own) if settings.held_power else rows
        parts.append(relabel_rejected(state, rows, generation) if settings.weak_accuracy else rows)
    if n_explained:
        parts.append(explained_dev(state, task.dev.select(prompts), n_explained, generation))
    if n_real:
        fixed, some = settings.real_rows_from == "fixed", task.train
        if settings.held_power:
            order = state.rng(0 if fixed else generation, "held").permutation(len(some))
            some = held(state, some.select(order), n_real)
        else:
            some = some.select(real_positions(n_real, generation, len(some), fixed=fixed))
        parts.append(as_labelled(some, "real", generation))
    if n_dev:
        parts.append(as_labelled(task.dev.select(taught), "dev", generation))
    return concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def held(state: LoopState, rows: Dataset, n: int) -> Dataset:
    """n of the rows, such that subtopics of the known world have p ~ (true share)^held_power, classes alike."""
    world = state.task.world
    shares = np.tile((world.shares / world.shares.max()) ** state.settings.held_power, state.n_classes)
    return rows.select(held_rows(world.subtopic(rows["text"]), shares / shares.sum(), n))


def dev_positions(state: LoopState, generation: int) -> tuple[np.ndarray, np.ndarray]:
    """Which dev rows a lesson teaches and which it explains, in the order in which they are taken.

    `rows`: `dev_rows` are taught, none is explained. `prompts`: none is taught, these are explained. `both`: these are
    taught, and all dev rows explained in turn, beginning behind the taught ones. They are drawn anew in every
    generation, or, under `dev_rows_in_turn`, go on where the generation before stopped.
    """
    settings, total = state.settings, len(state.task.dev)
    n, nothing = min(settings.dev_rows, total), np.zeros(0, dtype=int)
    if settings.dev_rows_in_turn:
        order = np.roll(state.rng(0, "dev").permutation(total), -(generation - 1) * n)
    else:
        order = state.rng(generation, "dev").permutation(total)
    if settings.dev_rows_as == "prompts":
        return nothing, order[:n]
    return order[:n], np.roll(order, -n) if settings.dev_rows_as == "both" else nothing


@method("real")
def real(state: LoopState, generation: int, n: int) -> Dataset:
    """Labelled real rows (generation-1)n .. of the train split, which starts over when used up: the upper bound."""
    train = state.task.train
    return as_labelled(train.select(real_positions(n, generation, len(train), fixed=False)), "real", generation)


@method("static", needs_generator=True)
def static(state: LoopState, generation: int, n: int) -> Dataset:
    """One lesson written by the untouched Generator, taught again every generation.

    With `static_size` that many texts are written once, and every lesson is a random subset of them.
    """
    if state.settings.static_size:
        if state.written is None:
            state.written = written(state, state.settings.static_size, generation)
        return state.written.select(state.rng(generation, "static").permutation(len(state.written))[:n])
    if state.first_lesson is None:
        return written(state, n, generation)
    return state.first_lesson.select(range(n))  # what `real_share` and `dev_rows` add comes behind


@method("recursive")
def recursive(state: LoopState, generation: int, n: int) -> Dataset:
    """Every lesson is written, or edited, by the Student of the generation before. Duplicates stay: the collapse."""
    if state.settings.mixing in EDITS:
        return edited(state, generation, n)
    settings, seed, labels = state.settings, state.seed(generation, "write"), state.balanced_labels(n)
    cues = state.student.cues(labels)

    def draw(some, seed: int, samples: int) -> list[str]:
        return generate(state.student.lm, some, Sampling.of(settings), seed=seed, samples=samples)

    texts = draw(cues, seed, 1)
    texts, counts = teaching.redraw(texts, cues, draw, settings.max_redraws, seed, duplicates=False)
    state.counts.update(counts)
    return make_lesson(texts, labels, "student", generation, "student_write")


@method("pseudo_label", needs_generator=True)
def pseudo_label(state: LoopState, generation: int, n: int) -> Dataset:
    """Random pool texts with the Generator's labels; a `written_share` beside them is written, with no feedback."""
    n_written = round(state.settings.written_share * n)
    parts = [written(state, n_written, generation)] if n_written else []
    if n := n - n_written:
        pool, rng, asked = state.task.pool, state.rng(generation, "pool"), round(n / state.settings.label_keep)
        rows = pool.select(np.concatenate([rng.permutation(len(pool)) for _ in range(-(-asked // len(pool)))])[:asked])
        parts = [labelled(state, rows, n, generation), *parts]
    return concatenate_datasets(parts) if len(parts) > 1 else parts[0]


@method("symbiosis", needs_generator=True)
def symbiosis(state: LoopState, generation: int, n: int) -> Dataset:
    """Step A: `pool_share` of the rows are what the last Student found hard, with the Generator's labels,
    `teaching_share` explain it, or are other pool texts like it, and the rest is written from the label alone.

    Before any feedback, all is written, or `first_lesson_sources` are random pool texts or those that the untaught
    Student finds hard.
    """
    settings, sources = state.settings, state.hard
    if sources is None and settings.first_lesson_sources == "random":
        sources = random_sources(state, generation)
    if sources is None and settings.first_lesson_sources == "feedback":
        sources = mine_hard_texts(state, 0)
    if sources is None:
        return written(state, n, generation)
    n_explain, n_label = round(settings.teaching_share * n), round(settings.pool_share * n)
    lessons = [labelled(state, sources, n_label, generation)] if n_label else []
    if n_explain and settings.teaching_rows == "retrieved":
        lessons.append(retrieved(state, sources, n_explain, generation, lessons))
    elif n_explain:
        lessons.append(explained(state, sources, n_explain, generation))
    rest = n - n_explain - n_label
    return concatenate_datasets(lessons + ([written(state, rest, generation)] if rest else []))


@method("oracle")
def oracle(state: LoopState, generation: int, n: int) -> Dataset:
    """New texts of the known world: a writer of dialled diversity (`subtopic_power`) and quality (`label_noise`).

    p(subtopic) ~ (true share)^subtopic_power; given its subtopic a text is exactly as the world writes it.
    """
    settings, truth, rng = state.settings, state.task.world, state.rng(generation, "world")
    shares = (truth.shares / truth.shares.max()) ** settings.subtopic_power  # the largest stays 1, whatever the power
    drawn = truth.sample(n, rng, labels=rng.permutation(state.balanced_labels(n)), shares=shares / shares.sum())
    labels = weak_labels(drawn["label"].to_numpy(), 1 - settings.label_noise, state.n_classes, rng)
    return make_lesson(drawn["text"].tolist(), labels, "world", generation, "world")


# --- rows of a lesson ----------------------------------------------------------------------------------------------
def as_labelled(rows: Dataset, kind: str, generation: int) -> Dataset:
    """Rows of a labelled split as lesson rows."""
    return make_lesson(rows["text"], rows["label"], "real", generation, kind, rows["source_id"])


def as_lesson(state: LoopState, texts: LabeledTexts, generation: int, kind: str, source_ids=None) -> Dataset:
    """Lesson rows with the Generator's label, or its probability of every label under `soft_labels`."""
    state.counts.update(texts.counts)
    soft = texts.probs if state.settings.soft_labels else None
    if soft is not None and not texts.counts["read"] + texts.counts["labelled"]:
        state.counts["read"] += len(texts.texts)
    origin = "real" if kind in ("label", "retrieve") else "generator"
    return make_lesson(texts.texts, texts.labels, origin, generation, kind, source_ids, label_probs=soft)


def written(state: LoopState, n: int, generation: int) -> Dataset:
    """n texts the Generator, or each of state.writers in equal parts, writes from balanced labels."""
    writers, seed, parts = state.writers or [state.generator], state.seed(generation, "write"), []
    for i, labels in enumerate(np.array_split(state.balanced_labels(n), len(writers))):
        own = derive_seed(seed, i, "snapshot") if i else seed
        texts = teaching.write(writers[i], labels, seed=own)
        parts.append(as_lesson(state, texts, generation, "write"))
    return concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def explained(state: LoopState, sources: Dataset, n: int, generation: int) -> Dataset:
    """n texts that explain the sources in turn."""
    sources = cycle(sources, n)
    texts = teaching.explain(state.generator, sources["text"], seed=state.seed(generation, "explain"))
    return as_lesson(state, texts, generation, "explain", sources["source_id"])


def retrieved(state: LoopState, sources: Dataset, n: int, generation: int, beside: Sequence[Dataset] = ()) -> Dataset:
    """n pool texts most like the sources, in turn, with the Generator's labels; see `most_alike`.

    None comes twice, and none that the lessons `beside` hold, while the pool has others.
    """
    pool = state.task.pool
    place = {source: i for i, source in enumerate(pool["source_id"])}
    taken = [place[source] for lesson in beside for source in lesson["source_id"]]
    found = most_alike(pool["text"][:], [place[source] for source in cycle(sources, n)["source_id"]], taken)
    rows = pool.select(found)
    return as_lesson(state, teaching.label(state.generator, rows["text"]), generation, "retrieve", rows["source_id"])


def edited(state: LoopState, generation: int, n: int) -> Dataset:
    """n labelled real rows, or after the first lesson its own n last ones (`edit_again`), as the Student edits them."""
    settings, train = state.settings, state.task.train
    if settings.mixing == "edit_again" and state.lesson is not None:
        rows = state.lesson.select(range(n))
    else:
        places = real_positions(n, generation, len(train), fixed=settings.real_rows_from == "fixed")
        rows = as_labelled(train.select(places), "real", generation)
    texts, drawn = state.student.edited(texts_of(rows), rows["label"], seed=state.seed(generation, "write"))
    state.counts.update(asked=n, edited=drawn)
    return make_lesson(texts, rows["label"], "student", generation, "student_edit", rows["source_id"])


def explained_dev(state: LoopState, rows: Dataset, n: int, generation: int) -> Dataset:
    """n texts that explain labelled rows in turn, each under its row's label: labels multiplied, not taught again."""
    rows = cycle(rows, n)
    texts = teaching.explain(state.generator, rows["text"], rows["label"], seed=state.seed(generation, "explain_dev"))
    return as_lesson(state, texts, generation, "explain_dev", rows["source_id"])


def labelled(state: LoopState, sources: Dataset, n: int, generation: int) -> Dataset:
    """n sources, in turn, with the Generator's labels.

    With `label_keep` below 1, n / label_keep sources are labelled, or all there are, and that share of them is taught
    which the Generator is surest of, see `teaching.surest`. For `class_weights` see `weighted_by_class`.
    """
    keep = state.settings.label_keep
    sources = cycle(sources, n) if keep == 1 else sources.select(range(min(len(sources), round(n / keep))))
    texts = teaching.label(state.generator, sources["text"])
    lesson = as_lesson(state, texts, generation, "label", sources["source_id"])
    if keep < 1:
        lesson = cycle(lesson.select(teaching.surest(texts, min(n, max(1, round(keep * len(lesson)))))), n)
    return weighted_by_class(lesson) if state.settings.class_weights else lesson


def weighted_by_class(lesson: Dataset) -> Dataset:
    """The rows with weights n / (labels that occur * rows of the own label): every label weighs the same."""
    labels, place, counts = np.unique(lesson["label"], return_inverse=True, return_counts=True)
    weight = (len(lesson) / len(labels) / counts)[place]
    return lesson.map(lambda row, i: {"weight": weight[i]}, with_indices=True, features=lesson.features)


def relabel_rejected(state: LoopState, rows: Dataset, generation: int) -> Dataset:
    """Rows whose reader (the Generator, else the Student) sees another label get one from a weak labeller."""
    labels, texts = np.array(rows["label"]), rows["text"]
    rejected = np.flatnonzero(state.reader.label_log_probs(texts).argmax(1) != labels)
    truth = state.task.world.posterior([texts[i] for i in rejected]).argmax(1)
    rng = state.rng(generation, "weak")
    labels[rejected] = weak_labels(truth, state.settings.weak_accuracy, state.n_classes, rng)
    state.counts["rejected"] += len(rejected)
    state.counts["read"] += len(texts) if state.generator else 0
    return rows.map(lambda row, i: {"label": labels[i]}, with_indices=True, features=rows.features)


def random_sources(state: LoopState, generation: int) -> Dataset:
    """As many random pool texts as step C would call hard."""
    pool = state.task.pool
    n = hard_count(len(pool), state.settings)
    return pool.select(state.rng(generation, "sources").permutation(len(pool))[:n])


# --- steps C and D -------------------------------------------------------------------------------------------------
def mine_hard_texts(state: LoopState, generation: int, other: Student | None = None) -> Dataset:
    """Step C: what the Student (this one, or another) finds hard in the unlabeled pool."""
    asked = replace(state, student=other) if other else state
    return hardest(asked, state.rng(generation, "feedback"))


def teach_another(state: LoopState, student: Student, generation: int) -> Student:
    """An initial Student that becomes another one, in place: as many lessons as this one has had, other ones.

    They are written by the Generator with random states of another seed, from the label alone.
    """
    settings = state.settings.model_copy(update={"seed": derive_seed(state.settings.seed, 0, "foreign")})
    other = LoopState(settings, state.task, student, replace(state.generator, settings=settings), counts=state.counts)
    for g in range(1, generation + 1):
        student.learn(written(other, settings.lesson_size, g), seed=other.seed(g, "student"))
        state.counts["student_rows"] += settings.lesson_size
    return student


def update_generator(state: LoopState, generation: int) -> tuple[Dataset, list[dict]]:
    """Step D: the Generator learns to teach state.hard by `generator_update`; its weights change in place.

    Returns state.hard, with a column `explanation` where one was written for each, and the losses per step.
    """
    generator, hard, seed = state.generator, state.hard, state.seed(generation, "teach")
    update = state.settings.generator_update
    if update == "sft":
        explained, history = teaching.update_sft(generator, hard["text"], seed=seed)
        state.counts.update(explained.counts)
        return hard.add_column("explanation", explained.texts), history
    if update == "pool_lm":
        state.counts["labelled"] += len(hard)
        return hard, teaching.update_pool_lm(generator, hard["text"], seed=seed)
    drafts, counts = teaching.explanations(generator, hard["text"], seed=seed)
    state.counts.update(counts)
    rows = as_lesson(state, teaching.label(state.generator, drafts), generation, "explain")
    influence = Influence(state.student, state.lesson, state.task.dev, state.seed(generation, "influence"))
    learn = {"influence": teaching.update_influence, "dpo": teaching.update_dpo}[update]
    return hard, learn(generator, hard["text"], drafts, influence.of(rows), seed=seed)
