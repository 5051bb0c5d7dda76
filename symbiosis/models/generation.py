"""Batched sampling from a causal LM: by transformers, by our own loop, or by vLLM where it is installed."""

import contextlib
import itertools
import re
from collections.abc import Sequence

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from symbiosis.data.lesson import Written
from symbiosis.errors import SymbiosisError
from symbiosis.models import vllm
from symbiosis.models.chat import decoded_answer, stops, without_thinking
from symbiosis.models.devices import resolved_precision
from symbiosis.models.fast import weights_as
from symbiosis.models.loading import LanguageModel, autocast, batches_by_length, end_tokens, pad
from symbiosis.models.refill import sample
from symbiosis.models.sampling import Sampling, require_finite


class GenerationError(SymbiosisError):
    """Texts that cannot be written, with the remedy."""


@torch.inference_mode()
def generate(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seed: int, samples: int = 1
) -> list[Written]:
    """`samples` continuations of each prompt, side by side in the prompts' order, see `written_texts`.

    prompts: n rows of token ids. Sampled at `temperature` from the `top_p` nucleus, up to the first of the `stops` and
    at most `max_new_tokens` long. Prompts of like length share a batch of about `batch_size` texts; each prompt is read
    once, however many samples are drawn. The same seed gives the same texts, by one engine. Raises EngineError where
    vLLM is asked for and not installed, SamplingError where the model's predictions are not finite.
    """
    engine = {"vllm": vllm.generate, "refill": _by_refill, "transformers": _by_transformers}[sampling.engine]
    rows = engine(lm, prompts, sampling, seed=seed, samples=samples)
    return written_texts(lm, rows, sampling.max_new_tokens, sampling.stops)


def _by_transformers(lm: LanguageModel, prompts, sampling: Sampling, *, seed: int, samples: int) -> list[list[int]]:
    model, tokenizer = lm
    config = GenerationConfig(
        do_sample=True, temperature=sampling.temperature, top_p=sampling.top_p, top_k=0,
        max_new_tokens=sampling.max_new_tokens, use_cache=True,
        eos_token_id=end_tokens(lm, sampling.stops), pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    rows: list[list[int]] = [[] for _ in range(len(prompts) * samples)]
    batches = batches_by_length([len(p) for p in prompts], max(1, sampling.batch_size // samples))
    finite = LogitsProcessorList([Finite()])
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), autocast(model, sampling.precision):
        torch.manual_seed(seed)
        for batch in tqdm(batches, desc="writing", leave=False, disable=len(batches) < 3):
            padded = pad(tokenizer, [prompts[i] for i in batch], left=True, device=model.device)
            inputs = _read_once(model, padded, samples)
            output = model.generate(**inputs, generation_config=config, logits_processor=finite)
            places = [i * samples + k for i in batch for k in range(samples)]
            for place, ids in zip(places, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                rows[place] = ids
    return rows


class Finite(LogitsProcessor):
    """Stops with a sentence where the library would with an assertion of the device."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        require_finite(scores)
        return scores


def _read_once(model, inputs: dict, samples: int) -> dict:
    """generate()'s arguments with each prompt `samples` times; all but its last token is then already in the cache."""
    position_ids = inputs.pop("position_ids")  # generate() derives them from the mask
    if samples == 1 or inputs["input_ids"].shape[1] == 1:
        return {name: value.repeat_interleave(samples, 0) for name, value in inputs.items()}
    seen = {name: value[:, :-1] for name, value in (inputs | {"position_ids": position_ids}).items()}
    cache = model(**seen, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(samples)
    return {name: value.repeat_interleave(samples, 0) for name, value in inputs.items()} | {"past_key_values": cache}


def _by_refill(lm: LanguageModel, prompts, sampling: Sampling, *, seed: int, samples: int) -> list[list[int]]:
    """By `models.refill`; a text depends on the seed and its place alone, not on generation_batch_size.

    Under bf16 the weights are rounded, too, once for all steps: autocast would round them at every one.
    """
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    low = resolved_precision(sampling.precision, lm.device) == "bf16"
    rounded = weights_as(lm.model, torch.bfloat16) if low else contextlib.nullcontext()
    with rounded:
        return sample(lm, repeated, [sampling.max_new_tokens] * len(repeated), sampling, seed=seed)


# --- what was written ----------------------------------------------------------------------------------------------
def written_texts(
    lm: LanguageModel, rows: Sequence[Sequence[int]], limit: int, ended_by: tuple[str, ...] = ()
) -> list[Written]:
    """The texts of token rows: up to the first stop, without special tokens and thinking, runs of blanks as one.

    ended_by: what ends a text beside the stops of the tokenizer. A text is cut where nothing ended it before `limit`
    tokens. Says in a line how many texts had thoughts.
    """
    tokenizer, ends = lm.tokenizer, {*end_tokens(lm)}
    words = re.compile("|".join(map(re.escape, [word for word in (stops(tokenizer)[1], *ended_by) if word])) or "(?!)")
    texts, n_thoughts = [], 0
    for row in rows:
        ids = list(itertools.takewhile(lambda i: i not in ends, row))
        said = decoded_answer(tokenizer, ids)
        text = without_thinking(said)
        n_thoughts += text != said
        text, *over = words.split(text, maxsplit=1)
        text = " ".join(text.split())
        texts.append(Written(text, cut=bool(text) and not over and len(ids) >= limit))
    if n_thoughts:
        tqdm.write(f"{n_thoughts} of {len(texts)} answers began with thinking, which was left out")
    return texts
