"""Architectures, batches and the training loop of the models pre-trained here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, Qwen2Config, Qwen2ForCausalLM

from symbiosis.models.loading import pad

Batch = tuple[torch.Tensor, torch.Tensor]  # ids and targets, each (batch, T); a target of -100 is not learned
INITIALIZER_RANGE = 0.06  # three times the classes' default: far fewer steps then suffice


@dataclass(frozen=True)
class Recipe:
    """How a model is pre-trained here; the number of steps is a setting."""

    version: int  # raised when a change to the lesson, the world or a prompt changes the weights
    sizes: dict[str, int]
    lesson: Callable  # (role, settings, rng) -> tokenizer and list of batches
    learning_rate: float = 8e-3  # AdamW's, after warm-up and before decay
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_share: float = 0.05  # of the steps: linear from 0; afterwards linear to 0
    architecture: str = ""  # 'student' or 'generator', see `new_model`; '' is that of the setting it is named by


def new_model(role: str, tokenizer, sizes: dict[str, int]):
    """A fresh GPT-NeoX Student or Qwen2 Generator (tied head), 4 attention heads; weights from torch's random state.

    sizes: `hidden`, `layers`, `intermediate` and `positions`.
    """
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": sizes["hidden"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": 4,
        "intermediate_size": sizes["intermediate"],
        "max_position_embeddings": sizes["positions"],
        "initializer_range": INITIALIZER_RANGE,
    }
    if role == "student":
        return GPTNeoXForCausalLM(GPTNeoXConfig(rotary_pct=0.25, **config, **ids))
    return Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=2, tie_word_embeddings=True, **config, **ids))


def padded_batch(tokenizer, rows: Sequence[Sequence[int]]) -> Batch:
    """Token rows padded on the right; padding is not learned."""
    padded = pad(tokenizer, rows, left=False, device="cpu")
    return padded["input_ids"], padded["input_ids"].masked_fill(padded["attention_mask"] == 0, -100)


def train(model, batches: Sequence[Batch], recipe: Recipe, *, desc: str) -> None:
    """Next-token cross-entropy where targets are not -100, AdamW.

    Padding is on the right, so a causal model needs no mask; logits are computed only where something is learned.
    """
    optimizer = torch.optim.AdamW(model.parameters(), betas=recipe.betas, weight_decay=0.0, fused=True)
    model.train()
    for step, (ids, targets) in enumerate(tqdm(batches, desc=desc, leave=False)):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * schedule(step, len(batches), recipe.warmup_share)
        learned = targets[:, 1:] != -100
        hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[learned]
        loss = cross_entropy(model.get_output_embeddings()(hidden), targets[:, 1:][learned])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def schedule(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate at `step` of 0..steps-1: up linearly while warming up, then down towards 0."""
    warm = (step + 1) / (1 + warmup_share * steps)
    return min(1.0, warm) * (1 - step / steps)
