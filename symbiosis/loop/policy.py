"""Step D by `teach`: the Generator learns to write what Students that it really taught still lack.

    min over phi of  L_dev(theta*(phi)),      theta*(phi) = train(theta_0, lessons of texts drawn from p_phi)

L_dev is the Student's loss on held-out texts: the labelled dev rows, or pool texts with the frozen Generator's labels.
A round goes down its gradient in phi, approximately:

1. lessons are drawn from the present p_phi, and a Student is really trained on them, one after the other;
2. new drafts are valued: how much would a training step on each lower L_dev, at the Student after each lesson? First
   order, and one step only: what a text does by way of the steps behind it is left out;
3. a policy gradient (`Generator.reinforce`) makes drafts of high value likelier, near the frozen Generator.

A quick Student (`student: probe | minilm`) is taught the drafts themselves, each valued where it was not taught, and in
closed form: what fitting it again with more of the draft would do, see `quick_values`.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import spearmanr

from symbiosis.data.lesson import make_lesson
from symbiosis.loop.influence import calibration, dev_losses, directional_slopes, label_scores, teaching_direction
from symbiosis.loop.state import LoopState
from symbiosis.measures.lessons import labels_right, whole_lesson
from symbiosis.models.generator import POLICY_STEPS, Generator
from symbiosis.models.loading import batches_by_length
from symbiosis.models.proxies import FITS, Head, ProxyStudent, Rows, fit_head, held_out_gradient, values
from symbiosis.models.scoring import mean_answer_losses
from symbiosis.models.student import Student
from symbiosis.settings import derive_seed

STUDENTS = 3  # Students a draft is valued at in a round: one that is taught so many lessons in a row
FOLDS = 4  # parts of the drafts, each of which is valued by a quick Student that was taught the others
STEP = 3e-3  # length of the move along the direction of values, both ways
HELD_OUT = 512  # pool texts the Students' loss is taken on in a round, where it is the pool's
CLIP = 3.0  # standard deviations a value may have

Told = dict[str, float]  # what a round found and cost, by name


@dataclass(frozen=True)
class Drafts:
    """Texts a Generator wrote, in the order of the labels it was asked for, both (n,)."""

    texts: list[str]
    labels: np.ndarray

    @property
    def lesson(self) -> Dataset:
        return make_lesson(self.texts, self.labels, "generator", 0, "write")


@dataclass
class Values:
    """Values (s, n) of n drafts at s Students, the Students' dev losses (s,) [nats], and what they were taught.

    written: texts of lessons that were written for them alone.
    """

    of_students: list[np.ndarray] = field(default_factory=list)
    dev_losses: list[float] = field(default_factory=list)
    written: int = 0
    rows: int = 0
    steps: int = 0

    @property
    def reliability(self) -> float:
        """Mean rank correlation between the values at two of the Students; nan where there is one."""
        pairs = [spearmanr(a, b)[0] for a, b in combinations(self.of_students, 2)]
        return float(np.mean(pairs)) if pairs else float("nan")


def teach_round(state: LoopState, frozen: Generator, generation: int, k: int) -> Told:
    """Round k after a generation (0: before any): state.generator changes in place; what the round found and cost.

        A_i = v_i + teach_label_weight * b_i - teach_kl * (d_i - mean d)

    v: values by `student_values` or `quick_values`, b: log p(asked label | draft) of the frozen Generator p0, both
    `standardised`; d_i = log p(draft i) - log p0(draft i). Under `teach_reward: label` there is no v, nor a Student,
    under `rows` no draft either: the Generator learns to write the dev rows, each asked for its label.
    """
    began, settings, generator = time.process_time(), state.settings, state.generator
    seed = state.seed(generation, f"round {k}")
    if settings.teach_reward == "rows":
        dev = state.task.dev
        history = generator.fine_tune(generator.write_turns(dev["label"]), dev["text"], seed=seed)
        loss = float(np.mean([step["loss"] for step in history]))
        return {"loss": loss, "policy_steps": len(history), "cpu_s": round(time.process_time() - began, 2)}
    drafts = write(generator, state.balanced_labels(settings.teach_drafts), seed=derive_seed(seed, 0, "drafts"))
    turns = generator.write_turns(drafts.labels)
    answered = generator.answered(turns, drafts.texts)
    far, kl = drift(generator, frozen, answered)
    belief = frozen.label_log_probs(drafts.texts)[np.arange(len(drafts.labels)), drafts.labels]
    advantage = settings.teach_label_weight * standardised(belief, drafts.labels)
    n = len(drafts.texts)
    told = {"asked": n, "labelled": n, "kl": kl, **whole_lesson(drafts.texts, drafts.labels, state.task.world)}
    if settings.teach_reward != "label":
        texts = held_out(state, frozen, seed)
        of_the = quick_values if isinstance(state.student, ProxyStudent) else student_values
        found = of_the(state, drafts, texts, seed)
        value = standardised(np.mean(found.of_students, axis=0), drafts.labels)
        advantage = advantage + value
        told |= {"dev_loss": found.dev_losses[-1], "reliability": found.reliability}
        told |= {"asked": n + found.written, "student_rows": found.rows, "student_steps": found.steps}
        told["labelled"] += len(texts) if texts is not state.task.dev else 0
        told |= values_by_truth(value, drafts, state.task.world)
    advantage = advantage - settings.teach_kl * (far - far.mean())
    kept = strongest(advantage, turns, settings.teach_learned)
    learned = tuple([part[i] for i in kept] for part in answered)
    generator.reinforce(learned, advantage[kept], seed=derive_seed(seed, 0, "policy"))
    return told | {"policy_steps": POLICY_STEPS, "cpu_s": round(time.process_time() - began, 2)}


def write(generator: Generator, labels: np.ndarray, *, seed: int) -> Drafts:
    """A text of each label as it comes, repeated ones included; only empty ones are left out."""
    texts = generator.answers(generator.write_turns(labels), seed=seed)
    kept = [i for i, text in enumerate(texts) if text]
    return Drafts([texts[i] for i in kept], np.asarray(labels)[kept])


def drift(generator: Generator, frozen: Generator, answered: tuple[list, list]) -> tuple[np.ndarray, float]:
    """log p - log p0 of each draft, (n,) [nats], and their mean per token: KL to the frozen Generator [nats/token]."""
    rows, lengths = answered
    tokens = np.array([len(row) for row in rows]) - lengths
    now, then = (mean_answer_losses(g.lm, rows, lengths, g.settings) for g in (generator, frozen))
    far = tokens * (then - now)
    return far, float(far.sum() / tokens.sum())


def standardised(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n,) x less the mean of its label, in standard deviations, at most CLIP of them; 0 where nothing differs."""
    means = np.bincount(labels, x) / np.maximum(np.bincount(labels), 1)
    centred = x - means[labels]
    spread = centred.std()
    return np.clip(centred / spread, -CLIP, CLIP) if spread else np.zeros_like(centred)


def strongest(advantage: np.ndarray, asked: list[str], share: float) -> np.ndarray:
    """Places, in order, of the share of the answers to each prompt that has the largest |advantage|, at least one."""
    kept, asked = [], np.array([str(turn) for turn in asked])
    for prompt in dict.fromkeys(asked):
        own = np.flatnonzero(asked == prompt)
        order = np.argsort(-np.abs(advantage[own]), kind="stable")
        kept.extend(own[order[: max(1, round(share * len(own)))]])
    return np.sort(kept)


# --- values --------------------------------------------------------------------------------------------------------


def held_out(state: LoopState, frozen: Generator, seed: int) -> Dataset:
    """Text and label of what the Students' loss is taken on: dev, or HELD_OUT pool texts with the Generator's labels.

    More texts than there are dev rows: values by 128 rows soon follow the rows' accidents. Other ones in every round.
    """
    if state.settings.teach_held_out == "dev":
        return state.task.dev
    pool, rng = state.task.pool, np.random.default_rng(derive_seed(seed, 0, "held out"))
    texts = pool.select(rng.permutation(len(pool))[:HELD_OUT])["text"]
    return Dataset.from_dict({"text": texts, "label": frozen.label_log_probs(texts).argmax(1).tolist()})


def student_values(state: LoopState, drafts: Drafts, dev: Dataset, seed: int) -> Values:
    """How much a training step on each draft, taught with the label it was asked for, would lower the dev loss.

        v_i = <q, grad label_loss_i>,    q = grad L_dev / sqrt(mean square lesson gradient + damping)

    at each of `taught`'s Students, by a central difference: two forward passes for all drafts, none backward.
    """
    found = Values()
    for student, lesson in taught(state, found, seed):
        q = teaching_direction(student, lesson, dev)
        questions = student.questions(drafts.texts)

        def losses(student=student, questions=questions) -> np.ndarray:
            return label_losses(student, questions, drafts.labels)

        found.of_students.append(directional_slopes(student, q, losses, STEP))
        with torch.inference_mode():
            found.dev_losses.append(sum(x.item() for x in dev_losses(student, dev)))
    return found


def taught(state: LoopState, found: Values, seed: int) -> Iterator[tuple[Student, Dataset]]:
    """A copy of the Student, taught lessons of the present policy in a row: as it is after each, and that lesson.

    A Student that had a lesson already also counts as it is, so that the values ask for what this one lacks now.
    """
    settings = state.settings
    dev_loss = "plain" if settings.teach_reward == "plain" else "calibrated"
    exact = settings.model_copy(update={"precision": "fp32", "dev_loss": dev_loss})
    lm = state.student.lm
    student = replace(state.student, lm=lm._replace(model=copy.deepcopy(lm.model)), settings=exact)
    if state.lesson is not None:
        yield student, state.lesson
    for i in range(STUDENTS - (state.lesson is not None)):
        labels = state.balanced_labels(settings.lesson_size)
        lesson = write(state.generator, labels, seed=derive_seed(seed, i, "lesson")).lesson
        found.written += len(lesson)
        found.rows += len(lesson)
        found.steps += len(student.learn(lesson, seed=derive_seed(seed, i, "student")))
        yield student, lesson


def label_losses(student: Student, questions: list[list[int]], labels: np.ndarray) -> np.ndarray:
    """(n,) [nats] what the label word costs the Student, as in training: not normalised over the labels."""
    losses = np.zeros(len(questions))
    for batch in batches_by_length([len(row) for row in questions], student.settings.generation_batch_size):
        scores = label_scores(student, [questions[i] for i in batch]).cpu().numpy()
        losses[batch] = -scores[np.arange(len(batch)), labels[batch]]
    return losses


def quick_values(state: LoopState, drafts: Drafts, dev: Dataset, seed: int) -> Values:
    """As `student_values`, for a quick Student: by how much more of a draft in its lesson would lower the dev loss.

        v_i = <H^-1 grad L_dev, grad label_loss_i>      see `proxies.values`

    It learns a lesson to its optimum, so lessons need not be others than the drafts: STUDENTS times these are dealt
    into FOLDS parts, and each part is valued by the Student of the others, which weigh a lesson_size together. A
    Student that had a lesson already values all of them as it is, in place of the first.
    """
    student, settings, found = state.student, state.settings, Values()
    held, rows, fit = student.rows(dev), student.rows(drafts.lesson), FITS[settings.student]
    n, rng = len(rows.w), np.random.default_rng(derive_seed(seed, 0, "folds"))

    def valued(head: Head, lesson: Rows, some: np.ndarray) -> tuple[np.ndarray, float]:
        gradient, loss = dev_gradient(head, held, plain=settings.teach_reward == "plain")
        return values(head, lesson, Rows(*(each[some] for each in rows)), gradient, fit["strength"]), loss

    def add(value: np.ndarray, loss: float) -> None:
        found.of_students.append(value)
        found.dev_losses.append(loss)

    if state.lesson is not None:
        add(*valued(student.head, student.rows(state.lesson), np.arange(n)))
    while len(found.of_students) < STUDENTS:
        value, losses = np.zeros(n), []
        for part in np.array_split(rng.permutation(n), FOLDS):
            others = np.setdiff1d(np.arange(n), part)
            weight = np.full(len(others), settings.lesson_size / len(others))
            lesson = Rows(rows.x[others], rows.q[others], weight)
            value[part], loss = valued(fit_head(*lesson, **fit), lesson, part)
            losses.append(loss)
            found.rows, found.steps = found.rows + len(others), found.steps + 1
        add(value, float(np.mean(losses)))
    return found


def dev_gradient(head: Head, held: Rows, *, plain: bool) -> tuple[np.ndarray, float]:
    """Gradient (C, d + 1) of the dev loss [nats] in a head's weight and bias, and the loss: see `calibration`."""
    if plain:
        return held_out_gradient(head, held, 1.0, np.zeros(held.q.shape[1]))
    k, bias = calibration(head.log_probs(held.x), held.q.argmax(1))
    return held_out_gradient(head, held, float(np.exp(k)), bias)


# --- what is told --------------------------------------------------------------------------------------------------


def values_by_truth(value: np.ndarray, drafts: Drafts, world) -> Told:
    """Mean value [standard deviations] of drafts with a right or wrong label, of frequent or rare subtopics."""
    if world is None:
        return {}
    right, tail = labels_right(drafts.texts, drafts.labels, world), world.in_tail(drafts.texts)
    cells = {"right_head": right & ~tail, "right_tail": right & tail, "wrong_head": ~right & ~tail}
    cells["wrong_tail"] = ~right & tail
    return {f"value_{name}": float(value[some].mean()) if some.any() else float("nan") for name, some in cells.items()}


def told_in_a_line(told: Told) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in told.items())


def cost(told: Told) -> Told:
    """What the record says of a round: texts written, texts read for their label, what Students were taught, CPU s."""
    names = ("asked", "labelled", "student_rows", "student_steps", "policy_steps", "cpu_s")
    return {name: told[name] for name in names if name in told}


def snapshots(rounds: int) -> list[int]:
    """The rounds after which the Generators of a mixture were kept: half way, three quarters, the last."""
    return sorted({-(-rounds // 2), -(-3 * rounds // 4), rounds})
