"""Batched sampling from a causal LM."""

from collections.abc import Sequence

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig

from symbiosis.models import autocast, batches_by_length, pad
from symbiosis.settings import RunSettings


@torch.inference_mode()
def generate(
    model,
    tokenizer,
    prompts: Sequence[Sequence[int]],
    settings: RunSettings,
    *,
    seed: int,
    samples: int = 1,
    what: str = "writing",
) -> list[str]:
    """`samples` continuations of each prompt, side by side in the prompts' order, special tokens removed.

    prompts: n rows of token ids. Sampled at `temperature` from the `top_p` nucleus, at most `max_new_tokens` long.
    Prompts of like length share a batch of about `generation_batch_size` texts; each prompt is read once, however many
    samples are drawn. The same seed gives the same texts.
    """
    config = GenerationConfig(
        do_sample=True, temperature=settings.temperature, top_p=settings.top_p, top_k=0,
        max_new_tokens=settings.max_new_tokens, use_cache=True,
        eos_token_id=model.generation_config.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    texts = [""] * (len(prompts) * samples)
    batches = batches_by_length([len(p) for p in prompts], max(1, settings.generation_batch_size // samples))
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), autocast(model, settings.precision):
        torch.manual_seed(seed)
        for batch in tqdm(batches, desc=what, leave=False, disable=len(batches) < 3):
            padded = pad(tokenizer, [prompts[i] for i in batch], left=True, device=model.device)
            inputs = _read_once(model, padded, samples)
            output = model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :]
            places = [i * samples + k for i in batch for k in range(samples)]
            for place, text in zip(places, tokenizer.batch_decode(output, skip_special_tokens=True), strict=True):
                texts[place] = " ".join(text.split())
    return texts


def _read_once(model, inputs: dict, samples: int) -> dict:
    """generate()'s arguments with each prompt `samples` times; all but its last token is then already in the cache."""
    position_ids = inputs.pop("position_ids")  # generate() derives them from the mask
    if samples == 1 or inputs["input_ids"].shape[1] == 1:
        return {name: value.repeat_interleave(samples, 0) for name, value in inputs.items()}
    seen = {name: value[:, :-1] for name, value in (inputs | {"position_ids": position_ids}).items()}
    cache = model(**seen, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(samples)
    return {name: value.repeat_interleave(samples, 0) for name, value in inputs.items()} | {"past_key_values": cache}
