"""Batched sampling from a causal LM."""

from collections.abc import Sequence

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig

from symbiosis.models import autocast, batches_by_length, pad
from symbiosis.settings import RunSettings


@torch.inference_mode()
def generate(
    model, tokenizer, prompts: Sequence[Sequence[int]], settings: RunSettings, *, seed: int, what: str = "writing"
) -> list[str]:
    """One sampled continuation per prompt, in order, special tokens removed.

    prompts: n rows of token ids. Sampled at `temperature` from the `top_p` nucleus, at most `max_new_tokens` long.
    Prompts of like length share a batch of `generation_batch_size`. The same seed gives the same texts.
    """
    config = GenerationConfig(
        do_sample=True, temperature=settings.temperature, top_p=settings.top_p, top_k=0,
        max_new_tokens=settings.max_new_tokens, use_cache=True,
        eos_token_id=model.generation_config.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    texts = [""] * len(prompts)
    batches = batches_by_length([len(p) for p in prompts], settings.generation_batch_size)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), autocast(model, settings.precision):
        torch.manual_seed(seed)
        for batch in tqdm(batches, desc=what, leave=False, disable=len(batches) < 3):
            inputs = pad(tokenizer, [prompts[i] for i in batch], left=True, device=model.device)
            inputs.pop("position_ids")  # generate() derives them from the mask
            output = model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :]
            for i, text in zip(batch, tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
                texts[i] = " ".join(text.split())
    return texts
