"""The Generator's side: write, explain, label, and learn to teach. It never sees a label of the pool."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from symbiosis.models.generation import GenerationError, generate
from symbiosis.models.loading import token_ids
from symbiosis.models.scoring import generator_beliefs, shorten, text_losses
from symbiosis.models.training import train_generator, train_preferences
from symbiosis.prompts import (
    GENERATOR_EXPLAIN,
    GENERATOR_WRITE,
    LENGTHS,
    STYLES,
    explain_prompt,
    name_prompt,
    write_about_prompt,
    write_prompt,
)
from symbiosis.settings import RunSettings, derive_seed


@dataclass
class Teacher:
    """The Generator with all it needs to answer: n texts asked of it come back in the order asked."""

    generator: torch.nn.Module
    tokenizer: object
    label_names: Sequence[str]
    settings: RunSettings
    counts: Counter  # what was asked and what came back, until the owner empties it

    def names(self, labels: Sequence[int]) -> list[str]:
        return [self.label_names[i] for i in labels]

    def beliefs(self, texts: Sequence[str]) -> np.ndarray:
        """p(label | text): (n, C), rows sum to 1."""
        log_p = generator_beliefs(self.generator, self.tokenizer, texts, self.label_names, self.settings)
        return np.exp(log_p)

    def texts(self, prompts: Sequence[str], *, seed: int, samples: int = 1) -> list[str]:
        """`samples` new texts per prompt, side by side, see `fresh_texts`."""
        rows = token_ids(self.tokenizer, prompts)

        def draw(some, s, k):
            return generate(self.generator, self.tokenizer, some, self.settings, seed=s, samples=k)

        return fresh_texts(draw, rows, self.settings, seed, self.counts, samples=samples)


@dataclass
class Taught:
    """Texts for a lesson, each (n,): text, label, and the Generator's belief in every label of it (n, C)."""

    texts: list[str]
    labels: np.ndarray
    beliefs: np.ndarray


def write(teacher: Teacher, labels: Sequence[int], *, seed: int) -> Taught:
    """One new text per asked label. Of `candidates` drafts the one most clearly read back as its label is kept."""
    prompts = [write_prompt(teacher.tokenizer, name) for name in teacher.names(labels)]
    if teacher.settings.attributes:
        prompts = attribute_prompts(teacher, labels, seed=derive_seed(seed, 0, "attributes"))
    m = teacher.settings.candidates
    drafts = teacher.texts(prompts, seed=seed, samples=m)
    return _choose(teacher, drafts, np.asarray(labels), teacher.beliefs(drafts))


def attribute_prompts(teacher: Teacher, labels: Sequence[int], *, seed: int) -> list[str]:
    """Write prompts with a subject the Generator names itself, a style and a length drawn at random.

    After AttrPrompt (Yu et al. 2023, arXiv 2306.15895), where a stronger model and a person name the attributes.
    """
    rng = np.random.default_rng(seed)
    asked = token_ids(teacher.tokenizer, [name_prompt(teacher.tokenizer, name) for name in teacher.names(labels)])
    subjects = generate(teacher.generator, teacher.tokenizer, asked, teacher.settings, seed=seed)
    styles, lengths = rng.choice(STYLES, len(asked)), rng.choice(LENGTHS, len(asked))
    parts = zip(teacher.names(labels), subjects, styles, lengths, strict=True)
    return [write_about_prompt(teacher.tokenizer, *part) for part in parts]


def explain(teacher: Teacher, hard_texts: Sequence[str], *, seed: int) -> Taught:
    """One new text per hard text, on its topic, with the Generator's label of it.

    With `candidates` m > 1 drafts the label is the vote of the hard text and its drafts, argmax_c of their mean belief,
    and the draft most clearly read as that label is kept; with one draft it is that draft's own label.
    """
    m, drafts = teacher.settings.candidates, explanations(teacher, hard_texts, seed=seed)
    beliefs = teacher.beliefs(drafts)
    vote = beliefs
    if m > 1:
        own = teacher.beliefs(hard_texts)[:, None]
        vote = np.concatenate([own, beliefs.reshape(len(hard_texts), m, -1)], axis=1).mean(1)
    return _choose(teacher, drafts, vote.argmax(1), beliefs)


def explanations(teacher: Teacher, hard_texts: Sequence[str], *, seed: int) -> list[str]:
    """`candidates` explanations of each hard text, side by side."""
    short = shorten(teacher.tokenizer, hard_texts, teacher.settings.max_length)
    prompts = [explain_prompt(teacher.tokenizer, text) for text in short]
    return teacher.texts(prompts, seed=seed, samples=teacher.settings.candidates)


def label(teacher: Teacher, texts: Sequence[str]) -> Taught:
    """Texts as they are, with the Generator's most likely label."""
    beliefs = teacher.beliefs(texts)
    teacher.counts["labelled"] += len(texts)
    return Taught(list(texts), beliefs.argmax(1), beliefs)


def _choose(teacher: Teacher, drafts: list[str], labels: np.ndarray, beliefs: np.ndarray) -> Taught:
    """Of each label's drafts, side by side, the one whose belief in that label is largest.

    Counts the drafts passed over, the texts kept, and those of the kept that are read back as their label.
    """
    m = len(drafts) // len(labels)
    rows = np.arange(len(labels))
    best = rows * m + beliefs.reshape(len(labels), m, -1)[rows, :, labels].argmax(1)
    agreed = beliefs[best].argmax(1) == labels
    teacher.counts.update(filtered=len(drafts) - len(labels), kept=len(labels), agreed=int(agreed.sum()))
    return Taught([drafts[i] for i in best], labels, beliefs[best])


# --- step D --------------------------------------------------------------------------------------------------------


def learn_own(teacher: Teacher, hard_texts: Sequence[str], *, seed: int) -> tuple[list[str], list[dict]]:
    """`sft`, the paper's step D: explain the hard texts, then fine-tune the Generator, in place, on what it wrote.

    Returns the explanations and the loss per step.
    """
    explained = explain(teacher, hard_texts, seed=seed).texts
    return explained, _fine_tune(teacher, _asked_to_explain(teacher, hard_texts), explained, seed=seed)


def learn_pool(teacher: Teacher, hard_texts: Sequence[str], *, seed: int) -> list[dict]:
    """`pool_lm`: the Generator learns, in place, to write the hard pool texts, asked for the label it gives them."""
    names = teacher.names(label(teacher, hard_texts).labels)
    return _fine_tune(teacher, [GENERATOR_WRITE.format(label=name) for name in names], hard_texts, seed=seed)


def learn_helpful(
    teacher: Teacher, hard_texts: Sequence[str], drafts: list[str], scores: np.ndarray, *, seed: int
) -> list[dict]:
    """`influence`: expert iteration. The Generator learns its drafts, in place, weighted by what they do.

        w_i proportional to exp(-s_i / (tau * sd(s)))       sum_i w_i = n

    drafts: (n m,) `candidates` of each hard text, side by side. scores: (n m,) first-order change of the Student's dev
    loss. Drafts are draws from the Generator p0, so this fits p proportional to p0 exp(-s / tau'), the minimiser of
    <p, s> + tau' KL(p || p0): without the KL term a first-order objective is linear in p and ends on a single draft.
    """
    weights = tilt(scores, teacher.settings.update_temperature)
    asked = _asked_to_explain(teacher, hard_texts, teacher.settings.candidates)
    return _fine_tune(teacher, asked, drafts, seed=seed, weights=weights)


def learn_preferences(
    teacher: Teacher, hard_texts: Sequence[str], drafts: list[str], scores: np.ndarray, *, seed: int
) -> list[dict]:
    """`dpo`: of each hard text's drafts the most helpful (lowest score) is preferred to the least helpful one."""
    m = teacher.settings.candidates
    first, scores = np.arange(len(hard_texts)) * m, scores.reshape(-1, m)
    best, worst = ([drafts[i] for i in first + order] for order in (scores.argmin(1), scores.argmax(1)))
    asked, model = _asked_to_explain(teacher, hard_texts), (teacher.generator, teacher.tokenizer)
    return train_preferences(*model, asked, best, worst, teacher.settings, seed=seed)


def tilt(scores: np.ndarray, tau: float) -> np.ndarray:
    """(n,) weights proportional to exp(-s / (tau * sd(s))), mean 1; all 1 where the scores do not differ."""
    spread = scores.std()
    z = np.zeros_like(scores) if spread == 0 else -(scores - scores.min()) / (tau * spread)
    return np.exp(z) / np.exp(z).mean()


def kl_to_initial(teacher: Teacher, initial: torch.nn.Module, *, n: int, seed: int) -> float:
    """KL(Generator || initial Generator) of written texts, estimated on n own samples [nats/token], >= 0 in the mean.

    mean over samples of the mean over tokens of log p(token) - log p0(token), label names asked in turn.
    """
    names = teacher.names(np.arange(n) % len(teacher.label_names))
    prompts = token_ids(teacher.tokenizer, [write_prompt(teacher.tokenizer, name) for name in names])
    settings, end = teacher.settings, [teacher.tokenizer.eos_token_id]
    texts = generate(teacher.generator, teacher.tokenizer, prompts, settings, seed=seed)
    rows = [p + t + end for p, t in zip(prompts, token_ids(teacher.tokenizer, texts), strict=True)]
    known = [len(p) for p in prompts]
    now, then = (text_losses(m, teacher.tokenizer, rows, known, settings) for m in (teacher.generator, initial))
    return float((then - now).mean())


def _fine_tune(teacher: Teacher, asked, answers, *, seed: int, weights=None) -> list[dict]:
    model = (teacher.generator, teacher.tokenizer)
    return train_generator(*model, asked, answers, teacher.settings, seed=seed, weights=weights)


def _asked_to_explain(teacher: Teacher, hard_texts: Sequence[str], times: int = 1) -> list[str]:
    """The user turns, each `times` times, side by side."""
    short = shorten(teacher.tokenizer, hard_texts, teacher.settings.max_length)
    return [GENERATOR_EXPLAIN.format(text=text) for text in short for _ in range(times)]


# --- texts that can be used ----------------------------------------------------------------------------------------


def fresh_texts(
    draw: Callable[[Sequence, int, int], list[str]],
    prompts: Sequence,
    settings: RunSettings,
    seed: int,
    counts: Counter,
    *,
    samples: int = 1,
    keep_duplicates: bool = False,
) -> list[str]:
    """`samples` texts per prompt from draw(prompts, seed, samples), side by side.

    Empty and duplicate ones are drawn again up to `max_redraws` times; duplicates that remain then stay, as the little
    variety the writer has. `counts` gathers asked, empty, duplicate, redrawn and repeated (the duplicates that stay).
    Raises GenerationError where empty texts remain.
    """
    texts = draw(prompts, seed, samples)
    counts["asked"] += len(texts)
    for attempt in range(settings.max_redraws + 1):
        empty, duplicate = _unusable(texts)
        counts["empty"] += len(empty)
        counts["duplicate"] += len(duplicate)
        again = empty if keep_duplicates else sorted(empty + duplicate)
        if not again:
            return texts
        if attempt < settings.max_redraws:
            counts["redrawn"] += len(again)
            redrawn = draw([prompts[i // samples] for i in again], derive_seed(seed, attempt, "redraw"), 1)
            for i, text in zip(again, redrawn, strict=True):
                texts[i] = text
    if empty:
        raise GenerationError(
            f"{len(empty)} of {len(texts)} texts are still empty after max_redraws={settings.max_redraws}; raise "
            "max_redraws, temperature or top_p, or check the model: it may end every text at once"
        )
    counts["repeated"] += len(duplicate)
    return texts


def _unusable(texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of the empty texts and of the repeats of an earlier one."""
    seen, empty, duplicate = set(), [], []
    for i, text in enumerate(texts):
        if not text:
            empty.append(i)
        elif text in seen:
            duplicate.append(i)
        seen.add(text)
    return empty, duplicate
