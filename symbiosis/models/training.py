"""Fine-tuning: the Student on a lesson, the Generator on texts or preferences.

A plain loop: AdamW (fused), fresh for every lesson, clipped gradients, length-bucketed batches, seeded order. The same
rows and epochs give the same number of optimiser steps to every method. Under `num_processes` ranks share each batch,
and under `gradient_accumulation_steps` it is read in parts: the same batches and steps, and the same losses but for the
order of their sums.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.nn.functional import logsigmoid
from tqdm.auto import tqdm

from symbiosis.models import ranks
from symbiosis.models.loading import kept_memory, token_ids
from symbiosis.models.ranks import Losses, TrainingError, all_reduce_sum, distributed
from symbiosis.models.scoring import student_labels, student_prefixes, student_texts, token_losses
from symbiosis.prompts import chat
from symbiosis.settings import RunSettings

MAX_GRAD_NORM = 1.0
WEIGHT_DECAY = 0.01


@distributed
def train_student(
    student, tokenizer, lesson, label_names: Sequence[str], settings: RunSettings, *, seed: int
) -> list[dict]:
    """Step B: teach the Student one lesson, in place. Returns each step's losses, see `student_losses`."""
    losses, lengths = student_losses(student, tokenizer, lesson, label_names, settings)
    batches = epochs_of(lengths, settings.batch_size, settings.epochs, seed)
    return fit(student, losses, batches, learning_rate=settings.learning_rate, what="Student", **_sharing(settings))


def student_losses(
    student, tokenizer, lesson, label_names: Sequence[str], settings: RunSettings
) -> tuple[Losses, list[int]]:
    """(losses, lengths): losses(rows, batch), what some rows of the lesson give to the means of a batch, and each row's
    tokens.

        loss = label_loss + lm_weight * lm_loss

    Every row is seen in two formats: its label word after the text, and its text after the label. A soft label counts
    as its labels, each weighted by its probability. Losses are means weighted by the row's `weight`.
    """
    words = student_labels(tokenizer, label_names)
    labels = [soft_label(row) for row in zip(lesson["label"], label_probs(lesson), strict=True)]
    asked = student_prefixes(tokenizer, lesson["text"], settings.max_length)
    names = [label_names[i] for i in lesson["label"]]
    written, given = student_texts(tokenizer, lesson["text"], names, settings.max_length)
    weight = torch.tensor(lesson["weight"], dtype=torch.float32, device=student.device)
    token_weight = _token_weights(weight, written, given)

    def losses(rows: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        label_rows = [(i, label, p) for i in rows for label, p in labels[i].items()]
        tokens = [[*asked[i], *words[label]] for i, label, _ in label_rows] + [written[i] for i in rows]
        known = [len(asked[i]) for i, _, _ in label_rows] + [given[i] for i in rows]
        share = torch.tensor([p for _, _, p in label_rows] + [1.0] * len(rows), device=weight.device)
        w = weight[[i for i, _, _ in label_rows] + list(rows)] * share
        nll, row = token_losses(student, tokenizer, tokens, known, settings)
        is_label = row < len(label_rows)
        # a label word counts once, however many tokens
        label_loss = (nll * w[row])[is_label].sum() / all_reduce_sum(weight[batch].sum())
        lm_loss = (nll * w[row])[~is_label].sum() / token_weight(batch)
        return {"loss": label_loss + settings.lm_weight * lm_loss, "label_loss": label_loss, "lm_loss": lm_loss}

    return losses, [len(r) for r in written]


def _token_weights(weight: torch.Tensor, rows: Sequence[Sequence[int]], known: Sequence[int]):
    """weights(batch): the summed weight of all predicted tokens of a batch, in all ranks."""
    tokens = torch.tensor([len(row) - k for row, k in zip(rows, known, strict=True)], device=weight.device)
    return lambda batch: all_reduce_sum(weight[batch].repeat_interleave(tokens[batch]).sum())


MIN_LABEL_PROB = 0.02  # a label less likely than this is left out of a soft label: most rows then have one or two


def label_probs(lesson) -> list:
    return lesson["label_probs"] if "label_probs" in lesson.column_names else [None] * len(lesson)


def soft_label(row: tuple[int, Sequence[float] | None]) -> dict[int, float]:
    """{label: probability}, the negligible ones left out and the rest summing to 1; {label: 1} where it is certain."""
    label, probs = row
    kept = {label: 1.0} if probs is None else {c: p for c, p in enumerate(probs) if p >= MIN_LABEL_PROB}
    return {c: p / sum(kept.values()) for c, p in kept.items()}


@distributed
def train_generator(
    generator,
    tokenizer,
    prompts: Sequence[str],
    answers: Sequence[str],
    settings: RunSettings,
    *,
    seed: int,
    weights: np.ndarray | None = None,
) -> list[dict]:
    """Supervised fine-tuning of the Generator, in place, on (user turn, answer) pairs.

        loss = sum_i w_i * nll_i / sum_i w_i * tokens_i      over the answers' tokens [nats/token]

    weights: (n,) of the pairs, 1 where None. With `generator_lora_rank` only adapters are trained, then merged.
    """
    rows, known = _answered(tokenizer, prompts, answers, settings)
    weight = torch.tensor(np.ones(len(rows)) if weights is None else weights, dtype=torch.float32)
    weight = weight.to(generator.device)
    token_weight = _token_weights(weight, rows, known)
    with adapters(generator, settings.generator_lora_rank):

        def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
            nll, row = token_losses(generator, tokenizer, [rows[i] for i in some], [known[i] for i in some], settings)
            return {"loss": (nll * weight[some][row]).sum() / token_weight(batch)}

        return _fit_generator(generator, losses, rows, settings, seed)


@distributed
def train_preferences(
    generator,
    tokenizer,
    prompts: Sequence[str],
    best: Sequence[str],
    worst: Sequence[str],
    settings: RunSettings,
    *,
    seed: int,
) -> list[dict]:
    """Direct preference optimisation of the Generator, in place: of each prompt's two answers, more of the better one.

        loss = -log sigmoid(beta * [(log p(best) - log p0(best)) - (log p(worst) - log p0(worst))])

    log p is summed over the answer's tokens, p0 is the Generator as it was, beta `dpo_beta`. The step's history also
    holds `preferred`, the share of pairs whose bracket is positive. Rafailov et al. 2023, arXiv 2305.18290.
    """
    n = len(prompts)
    rows, known = _answered(tokenizer, [*prompts, *prompts], [*best, *worst], settings)

    def log_p(batch) -> torch.Tensor:
        nll, row = token_losses(generator, tokenizer, [rows[i] for i in batch], [known[i] for i in batch], settings)
        return -torch.zeros(len(batch), device=nll.device).index_add(0, row, nll)

    with torch.no_grad():
        chunks = np.array_split(np.arange(2 * n), -(-2 * n // settings.batch_size))
        before = torch.cat([log_p(chunk) for chunk in chunks])
    with adapters(generator, settings.generator_lora_rank):

        def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
            both = np.concatenate([some, some + n])
            better, worse = (log_p(both) - before[both]).chunk(2)
            margin = better - worse
            share = len(some) / all_reduce_sum(
                torch.tensor(float(len(batch)), device=margin.device)
            )  # 1 where some is all
            loss = -logsigmoid(settings.dpo_beta * margin).mean()
            return {"loss": loss * share, "preferred": (margin > 0).float().mean() * share}

        return _fit_generator(generator, losses, rows[:n], settings, seed)


def _answered(tokenizer, prompts, answers, settings: RunSettings) -> tuple[list[list[int]], list[int]]:
    """Token rows `chat turn, answer, <eos>` and how many leading tokens are the turn."""
    questions = token_ids(tokenizer, [chat(tokenizer, p) for p in prompts])
    end = [tokenizer.eos_token_id]
    rows = [q + a + end for q, a in zip(questions, token_ids(tokenizer, answers, settings.max_new_tokens), strict=True)]
    return rows, [len(q) for q in questions]


def _fit_generator(generator, losses, rows, settings: RunSettings, seed: int) -> list[dict]:
    batches = epochs_of([len(r) for r in rows], settings.batch_size, settings.generator_epochs, seed)
    rate = settings.generator_learning_rate
    return fit(generator, losses, batches, learning_rate=rate, what="Generator", **_sharing(settings))


def _sharing(settings: RunSettings) -> dict:
    """How a step is divided among processes and passes."""
    return {name: getattr(settings, name) for name in ("sharding", "gradient_accumulation_steps")}


@contextlib.contextmanager
def adapters(model, rank: int) -> Iterator[None]:
    """Inside, only LoRA adapters of `rank` train (on every linear layer but the head); afterwards they are merged.

    Rank 0: all weights train. Hu et al. 2021, arXiv 2106.09685. Raises TrainingError where peft is not installed.
    """
    if not rank:
        yield
        return
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError:
        raise TrainingError("generator_lora_rank: needs peft; pip install peft, or set it to 0") from None
    trained = [p for p in model.parameters() if p.requires_grad]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = LoraModel(model, {"default": config}, "default")
    try:
        yield
    finally:
        wrapped.merge_and_unload()
        for p in trained:
            p.requires_grad_(True)


@kept_memory()
def fit(
    model,
    losses: Losses,
    batches: Sequence[np.ndarray],
    *,
    learning_rate: float,
    what: str,
    schedule: Callable[[int], float] = lambda step: 1.0,
    sharding: str = "none",
    gradient_accumulation_steps: int = 1,
) -> list[dict]:
    """Minimise "loss" of losses(rows, batch), summed over the parts of a batch, a step per batch; each step's losses.

    losses(rows, batch): what `rows` give to the means of the batch they belong to, so that a batch read in
    `gradient_accumulation_steps` parts has the gradient of the whole one. schedule(step): share of `learning_rate`. In
    a rank the losses must be linear, see `ranks.wrap_ddp_or_fsdp`, which also says what `sharding` does. Raises
    TrainingError at the first loss that is not finite.
    """
    losses = ranks.wrap_ddp_or_fsdp(model, losses, sharding)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    history = []
    model.train()
    for step, batch in enumerate(tqdm(batches, desc=f"training the {what}", leave=False)):
        optimizer.param_groups[0]["lr"] = learning_rate * schedule(step)
        optimizer.zero_grad(set_to_none=True)
        values = _add_gradients(losses, batch, gradient_accumulation_steps)
        if not math.isfinite(values["loss"]):
            raise TrainingError(
                f"{what}: the loss became {values['loss']} at step {step + 1} of {len(batches)}; nothing of this "
                "stage was saved and the run continues from the last whole one: lower "
                f"{'generator_learning_rate' if what == 'Generator' else 'learning_rate'} in the params file"
            )
        torch.nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM)
        optimizer.step()
        history.append(values)
    model.eval()
    return history


def _add_gradients(losses: Losses, batch: np.ndarray, parts: int) -> dict[str, float]:
    """The losses of a batch, read in `parts` parts, whose gradients are added to the model's."""
    own, values = ranks.shard(batch), {}
    for rows in np.array_split(own, ranks.n_microbatches(batch, parts)):
        found = losses(rows, own)
        for name, value in ranks.reduce_losses(found).items():
            values[name] = values.get(name, 0.0) + value
        (found["loss"] * ranks.size()).backward()  # the ranks' gradients are averaged, not summed
    return values


def epochs_of(lengths: Sequence[int], batch_size: int, epochs: int, seed: int) -> list[np.ndarray]:
    """Batches of all rows, `epochs` times over."""
    rng = np.random.default_rng(seed)
    return [batch for _ in range(epochs) for batch in bucketed_batches(lengths, batch_size, rng)]


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
