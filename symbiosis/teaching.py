"""The Generator's side: write, explain, label, and learn to teach. It never sees a label of the pool."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from symbiosis.errors import SymbiosisError
from symbiosis.generation import generate
from symbiosis.models import token_ids
from symbiosis.prompts import GENERATOR_EXPLAIN, explain_prompt, write_prompt
from symbiosis.scoring import generator_beliefs, shorten
from symbiosis.settings import RunSettings, derive_seed
from symbiosis.training import train_generator


class GenerationError(SymbiosisError):
    """A writer that keeps returning empty or duplicate texts."""


def write(
    generator, tokenizer, labels: Sequence[str], settings: RunSettings, *, seed: int, counts: Counter
) -> list[str]:
    """One new text per asked label name."""
    prompts = token_ids(tokenizer, [write_prompt(tokenizer, label) for label in labels])
    return fresh_texts(
        lambda rows, s: generate(generator, tokenizer, rows, settings, seed=s), prompts, settings, seed, counts
    )


def explain(
    generator, tokenizer, hard_texts: Sequence[str], settings: RunSettings, *, seed: int, counts: Counter
) -> list[str]:
    """One new text per hard text, on its topic, easier to learn from."""
    hard_texts = shorten(tokenizer, hard_texts, settings.max_length)
    prompts = token_ids(tokenizer, [explain_prompt(tokenizer, text) for text in hard_texts])
    return fresh_texts(
        lambda rows, s: generate(generator, tokenizer, rows, settings, seed=s), prompts, settings, seed, counts
    )


def label(generator, tokenizer, texts: Sequence[str], label_names: Sequence[str], settings: RunSettings) -> np.ndarray:
    """The Generator's most likely label of each text: (n,) int."""
    return generator_beliefs(generator, tokenizer, texts, label_names, settings).argmax(1)


def learn_to_teach(
    generator, tokenizer, hard_texts: Sequence[str], settings: RunSettings, *, seed: int, counts: Counter
) -> tuple[list[str], list[dict]]:
    """Step D, the paper's form: explain the hard texts, then fine-tune the Generator, in place, on those explanations.

    Returns the explanations and the loss per step.
    """
    explanations = explain(generator, tokenizer, hard_texts, settings, seed=seed, counts=counts)
    asked = [GENERATOR_EXPLAIN.format(text=t) for t in shorten(tokenizer, hard_texts, settings.max_length)]
    return explanations, train_generator(generator, tokenizer, asked, explanations, settings, seed=seed)


def fresh_texts(
    draw: Callable,
    prompts: Sequence,
    settings: RunSettings,
    seed: int,
    counts: Counter,
    *,
    keep_duplicates: bool = False,
) -> list[str]:
    """A text per prompt from draw(prompts, seed), empty and duplicate ones drawn again up to `max_redraws` times.

    `counts` gathers asked, empty, duplicate and redrawn. Raises GenerationError where the bound is reached.
    """
    texts = draw(prompts, seed)
    counts["asked"] += len(prompts)
    for attempt in range(settings.max_redraws + 1):
        empty, duplicate = _unusable(texts)
        counts["empty"] += len(empty)
        counts["duplicate"] += len(duplicate)
        again = empty if keep_duplicates else sorted(empty + duplicate)
        if not again:
            return texts
        if attempt < settings.max_redraws:
            counts["redrawn"] += len(again)
            for i, text in zip(
                again, draw([prompts[i] for i in again], derive_seed(seed, attempt, "redraw")), strict=True
            ):
                texts[i] = text
    raise GenerationError(
        f"{len(empty)} empty and {len(duplicate)} duplicate texts of {len(texts)} remain after max_redraws="
        f"{settings.max_redraws}; raise max_redraws, temperature or top_p, or ask for fewer rows (lesson_size)"
    )


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
