"""Batched sampling from a causal LM: by transformers, by our own loop, or by vLLM where it is installed."""

import contextlib
import hashlib
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig

from symbiosis.errors import SymbiosisError
from symbiosis.models.loading import autocast, batches_by_length, pad, save
from symbiosis.models.refill import sample, weights_as
from symbiosis.settings import RunSettings, derive_seed

VLLM_MEMORY = 0.4  # vLLM's share of the GPU; the rest is for the models that are trained and scored in this process

_engines: dict[str, Any] = {}  # weights' digest -> vLLM's engine, the last one only: starting one takes a minute


class GenerationError(SymbiosisError):
    """Texts that cannot be written, with the remedy."""


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
    samples are drawn. The same seed gives the same texts, by one `generation_engine`. Raises GenerationError where
    vLLM is asked for and not installed.
    """
    engine = getattr(settings, "generation_engine", "transformers")  # only runs have the choice
    if engine != "transformers":
        by = {"refill": _by_refill, "vllm": _by_vllm}[engine]
        return by(model, tokenizer, prompts, settings, seed, samples)
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


def _by_refill(model, tokenizer, prompts, settings: RunSettings, seed: int, samples: int) -> list[str]:
    """generate() by `models.refill`; a text depends on the seed and its place alone, not on generation_batch_size.

    Under bf16 the weights are rounded, too, once for all steps: autocast would round them at every one.
    """
    if not prompts:
        return []  # a tokenizer decodes nothing to one empty text
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    rounded = weights_as(model, torch.bfloat16) if settings.precision == "bf16" else contextlib.nullcontext()
    with rounded:
        ids = sample(
            model, tokenizer, repeated, [settings.max_new_tokens] * len(repeated), temperature=settings.temperature,
            top_p=settings.top_p, batch_size=settings.generation_batch_size, seed=seed,
        )  # fmt: skip
    return [" ".join(text.split()) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


# --- vLLM ----------------------------------------------------------------------------------------------------------


def require_engine(settings: RunSettings) -> None:
    """Raises GenerationError where this environment does not have the `generation_engine`."""
    if settings.generation_engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise GenerationError(
            "generation_engine: 'vllm' is not installed here; make the environment of its own that the README "
            "describes and run from there, or set generation_engine to transformers"
        )


def _by_vllm(model, tokenizer, prompts, settings: RunSettings, seed: int, samples: int) -> list[str]:
    """generate() by vLLM; every prompt has a seed of its own, or equal prompts would be answered with one text."""
    require_engine(settings)
    from vllm import SamplingParams

    stops = model.generation_config.eos_token_id
    asked = [
        SamplingParams(
            n=samples, temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_new_tokens,
            seed=derive_seed(seed, i, "vllm") % 2**31, stop_token_ids=stops if isinstance(stops, list) else [stops],
        )
        for i in range(len(prompts))
    ]  # fmt: skip
    rows = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
    answers = _engine(model, tokenizer, settings).generate(rows, asked, use_tqdm=False)
    ids = [sample.token_ids for answer in answers for sample in answer.outputs]
    return [" ".join(text.split()) for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def _engine(model, tokenizer, settings: RunSettings):
    """vLLM's engine over the weights as they stand: the last one, or, since they were trained, a new one."""
    from vllm import LLM

    digest = hashlib.sha256(settings.precision.encode())
    for p in model.parameters():
        digest.update(p.detach().cpu().contiguous().numpy().data)
    if digest.hexdigest() not in _engines:
        _engines.clear()  # gives its memory back first
        with tempfile.TemporaryDirectory(prefix="symbiosis-vllm-") as folder:
            save(model, tokenizer, Path(folder) / "model")
            dtype = {"fp32": "float32", "bf16": "bfloat16"}[settings.precision]
            _engines[digest.hexdigest()] = LLM(
                model=f"{folder}/model", dtype=dtype, gpu_memory_utilization=VLLM_MEMORY, trust_remote_code=False
            )
    return _engines[digest.hexdigest()]
