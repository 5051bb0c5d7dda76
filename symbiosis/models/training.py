"""Fine-tuning: one loop for the Student on a lesson, and the Generator on texts or preferences.

A plain loop: AdamW (fused), fresh for every lesson, clipped gradients, length-bucketed batches, seeded order. The same
rows and epochs give the same number of optimiser steps to every method. Under `num_processes` ranks share each batch,
and under `gradient_accumulation_steps` it is read in parts: the same batches and steps, and the same losses but for the
order of their sums.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tqdm.auto import tqdm

from symbiosis.models import ranks
from symbiosis.models.fast import malloc_without_trim
from symbiosis.models.ranks import Losses, TrainingError, all_reduce_sum
from symbiosis.settings import RunSettings

MAX_GRAD_NORM = 1.0
WEIGHT_DECAY = 0.01


def token_weights(weight: torch.Tensor, rows: Sequence[Sequence[int]], prompt_lengths: Sequence[int]):
    """weights(batch): the summed weight of all predicted tokens of a batch, in all ranks."""
    lengths = zip(rows, prompt_lengths, strict=True)
    tokens = torch.tensor([len(row) - length for row, length in lengths], device=weight.device)
    return lambda batch: all_reduce_sum(weight[batch].repeat_interleave(tokens[batch]).sum())


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


@contextlib.contextmanager
def upper_layers(model, n: int) -> Iterator[None]:
    """Inside, only the last n layers train: no gradient is taken to the others, to embeddings or to the head. 0: all.

    Raises TrainingError where the model has fewer.
    """
    layers = [m for m in model.modules() if type(m).__name__ in (model._no_split_modules or ())]
    if n > len(layers):
        raise TrainingError(f"teach_layers: {n}, but the Generator has {len(layers)} layers; lower it, or set it to 0")
    upper = {id(p) for layer in layers[len(layers) - n :] for p in layer.parameters()}
    still = [p for p in model.parameters() if p.requires_grad and n and id(p) not in upper]
    for p in still:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in still:
            p.requires_grad_(True)


@dataclass(frozen=True)
class Steps:
    """How optimiser steps are taken: their size, and how each is divided among ranks and passes."""

    what: str  # 'Student' or 'Generator', as progress and errors name it
    learning_rate: float
    schedule: Callable[[int], float] = lambda step: 1.0  # share of the learning rate, by step
    sharding: str = "none"
    microbatches: int = 1

    @classmethod
    def of(cls, what: str, learning_rate: float, settings: RunSettings) -> "Steps":
        parts = settings.gradient_accumulation_steps
        return cls(what, learning_rate, sharding=settings.sharding, microbatches=parts)

    def shaped(self, schedule: str, warmup_steps: int, steps: int) -> "Steps":
        """The same with the step size of a lesson of `steps` steps; no step of these has size 0.

            share_k = (k + 1) / (warmup_steps + 1)            k < warmup_steps
                    = 1                                       from then on, `constant`
                    = (steps - k) / (steps - warmup_steps)    from then on, `linear`             k = 0 .. steps - 1

        AdamW's first steps, whose moments know one batch each, at full size undo what a pre-trained model knows.
        """

        def share(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            return (steps - step) / (steps - warmup_steps) if schedule == "linear" else 1.0

        return replace(self, schedule=share)


@malloc_without_trim()
def fit(model, losses: Losses, batches: Sequence[np.ndarray], steps: Steps) -> list[dict]:
    """Minimise "loss" of losses(rows, batch), summed over the parts of a batch, a step per batch; each step's losses.

    losses(rows, batch): what `rows` give to the means of the batch they belong to, so that a batch read in parts has
    the gradient of the whole one; in a rank they must be linear, see `ranks.wrap_ddp_or_fsdp`. Raises TrainingError at
    the first loss that is not finite.
    """
    losses = ranks.wrap_ddp_or_fsdp(model, losses, steps.sharding)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=steps.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    history = []
    model.train()
    for step, batch in enumerate(tqdm(batches, desc=f"training the {steps.what}", leave=False)):
        optimizer.param_groups[0]["lr"] = steps.learning_rate * steps.schedule(step)
        optimizer.zero_grad(set_to_none=True)
        values = _add_gradients(losses, batch, steps.microbatches)
        if not math.isfinite(values["loss"]):
            raise TrainingError(
                f"{steps.what}: the loss became {values['loss']} at step {step + 1} of {len(batches)}; nothing of this "
                "stage was saved and the run continues from the last whole one: lower "
                f"{'generator_learning_rate' if steps.what == 'Generator' else 'learning_rate'} in the params file"
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
