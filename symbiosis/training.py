"""Fine-tuning: the Student on a lesson, the Generator on its own explanations.

A plain loop: AdamW (fused), fresh for every lesson, clipped gradients, length-bucketed batches, seeded order. The same
rows and epochs give the same number of optimiser steps to every method.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from symbiosis.errors import SymbiosisError
from symbiosis.models import token_ids
from symbiosis.prompts import chat
from symbiosis.scoring import student_labels, student_prefixes, student_texts, token_losses
from symbiosis.settings import RunSettings

MAX_GRAD_NORM = 1.0
WEIGHT_DECAY = 0.01


class TrainingError(SymbiosisError):
    """Training that cannot go on; nothing of it is saved."""


def train_student(
    student, tokenizer, lesson, label_names: Sequence[str], settings: RunSettings, *, seed: int
) -> list[dict]:
    """Step B: teach the Student one lesson, in place. Returns each step's label_loss [nats] and lm_loss [nats/token].

        loss = label_loss + lm_weight * lm_loss

    Every row is seen in two formats: its label word after the text, and its text after the label. Losses are means
    weighted by the row's `weight`.
    """
    labels = [student_labels(tokenizer, label_names)[i] for i in lesson["label"]]
    asked = student_prefixes(tokenizer, lesson["text"], settings.max_length)
    names = [label_names[i] for i in lesson["label"]]
    written, given = student_texts(tokenizer, lesson["text"], names, settings.max_length)
    weight = torch.tensor(lesson["weight"], dtype=torch.float32, device=student.device)

    def losses(batch: np.ndarray) -> dict[str, torch.Tensor]:
        rows = [[*asked[i], *labels[i]] for i in batch] + [written[i] for i in batch]
        known = [len(asked[i]) for i in batch] + [given[i] for i in batch]
        nll, row = token_losses(student, tokenizer, rows, known, settings)
        w, is_label = weight[batch].repeat(2), row < len(batch)
        label_loss = (nll * w[row])[is_label].sum() / weight[
            batch
        ].sum()  # a label word counts once, however many tokens
        lm_loss = (nll * w[row])[~is_label].sum() / w[row][~is_label].sum()
        return {"loss": label_loss + settings.lm_weight * lm_loss, "label_loss": label_loss, "lm_loss": lm_loss}

    return fit(
        student, losses, [len(r) for r in written], epochs=settings.epochs, batch_size=settings.batch_size,
        learning_rate=settings.learning_rate, seed=seed, what="Student",
    )  # fmt: skip


def train_generator(
    generator, tokenizer, prompts: Sequence[str], answers: Sequence[str], settings: RunSettings, *, seed: int
) -> list[dict]:
    """Step D as supervised fine-tuning of the Generator, in place, on (user turn, answer) pairs; loss on the answer."""
    questions = token_ids(tokenizer, [chat(tokenizer, p) for p in prompts])
    end = [tokenizer.eos_token_id]
    rows = [q + a + end for q, a in zip(questions, token_ids(tokenizer, answers, settings.max_new_tokens), strict=True)]
    known = [len(q) for q in questions]

    def losses(batch: np.ndarray) -> dict[str, torch.Tensor]:
        nll, _ = token_losses(generator, tokenizer, [rows[i] for i in batch], [known[i] for i in batch], settings)
        return {"loss": nll.mean()}

    return fit(
        generator, losses, [len(r) for r in rows], epochs=settings.generator_epochs, batch_size=settings.batch_size,
        learning_rate=settings.generator_learning_rate, seed=seed, what="Generator",
    )  # fmt: skip


def fit(
    model,
    losses: Callable[[np.ndarray], dict[str, torch.Tensor]],
    lengths: Sequence[int],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    what: str,
) -> list[dict]:
    """Minimise losses(batch)["loss"] over all rows, `epochs` times; returns each step's losses as floats.

    Raises TrainingError at the first loss that is not finite.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    rng = np.random.default_rng(seed)
    batches = [batch for _ in range(epochs) for batch in bucketed_batches(lengths, batch_size, rng)]
    history = []
    model.train()
    for step, batch in enumerate(tqdm(batches, desc=f"training the {what}", leave=False)):
        parts = losses(batch)
        if not torch.isfinite(parts["loss"]):
            raise TrainingError(
                f"{what}: the loss became {parts['loss'].item()} at step {step + 1} of {len(batches)}; nothing of this "
                "stage was saved and the run continues from the last whole one: lower learning_rate "
                "(generator_learning_rate for step D) in the params file"
            )
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        history.append({name: value.item() for name, value in parts.items()})
    model.eval()
    return history


def bucketed_batches(lengths: Sequence[int], batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Every index once, in batches of like length, in random order: ceil(n / batch_size) batches."""
    order = rng.permutation(len(lengths))
    stretch = 16 * batch_size  # sorted within a stretch only, so that batches differ from epoch to epoch
    batches = []
    for i in range(0, len(order), stretch):
        part = order[i : i + stretch]
        part = part[np.argsort(np.asarray(lengths)[part], kind="stable")]
        batches += [part[j : j + batch_size] for j in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]
