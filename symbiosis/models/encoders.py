"""Vectors of texts, for what words cannot tell: from a text encoder of one's own choice, local or of the hub.

Any encoder that transformers loads will do. A folder of sentence-transformers says how its vectors are meant (pooling,
normalising, length, prompt), and is followed or refused; for any other the vector of a text is the mean of its tokens'
last hidden states. What counts as alike is the encoder's opinion; name it beside the number.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from symbiosis.errors import SymbiosisError
from symbiosis.models import loading
from symbiosis.models.checks import ModelError, check_numbers, library_errors, positions, read_config
from symbiosis.models.devices import resolved_precision
from symbiosis.models.weights import folder_of
from symbiosis.settings import resolve

SENTENCES = "all-minilm-l6-v2"  # the encoder of the package registry
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
BATCHES = {"fp32": 64, "bf16": 32}  # texts encoded at a time
PROMPTS = "config_sentence_transformers.json"
POOLINGS = {  # hidden (b, T, d) and mask (b, T, 1), both fp32, padding on the right -> (b, d)
    "cls": lambda hidden, mask: hidden[:, 0],
    "max": lambda hidden, mask: hidden.masked_fill(mask == 0, -torch.inf).amax(1),
    "mean": lambda hidden, mask: (hidden * mask).sum(1) / mask.sum(1),
    "mean_sqrt_len": lambda hidden, mask: (hidden * mask).sum(1) / mask.sum(1).sqrt(),
    "weightedmean": lambda hidden, mask: POOLINGS["mean"](hidden, mask * mask.cumsum(1)),
    "lasttoken": lambda hidden, mask: hidden[torch.arange(len(hidden)), mask[..., 0].sum(1).long() - 1],
}


class EncoderError(SymbiosisError):
    """An encoder that cannot be had, with the remedy."""


@dataclass(frozen=True)
class Recipe:
    """How a folder's vectors are made of its model's last hidden states."""

    path: str = ""  # of the model, in the folder
    poolings: tuple[str, ...] = ("mean",)  # in the order of POOLINGS; several are written side by side
    normalize: bool = False
    max_length: int | None = None
    lower_case: bool = False
    prompt: str = ""  # before every text


def load(
    name: str, revision: str = "", *, device: str = "auto", max_length: int = 256, precision: str = "fp32"
) -> Callable[[Sequence[str]], np.ndarray]:
    """texts -> (n, d) vectors, by the encoder in a local folder or of a hub id at a pinned commit.

    Texts longer than `max_length` tokens, or than the encoder reads, are cut. Under `precision: bf16` the weights are
    rounded, too, and only the pooling is in fp32: twice to three times as fast, at a cosine of 0.9999 to the fp32
    vector. Raises EncoderError where the encoder cannot be had, safetensors only, or its folder asks for a step that
    is not known here.
    """
    name = str(folder_of(name) or name)
    local, precision = resolve(name).is_dir(), resolved_precision(precision, loading.pick_device(device))
    if not local and not revision:
        raise EncoderError(f"encoder: {name} is no folder, and a hub id needs its commit as encoder_revision")
    try:
        folder = resolve(name) if local else loading.download(name, revision)
        with library_errors(folder, "copy its folder here and name it, or take encoder: base"):
            recipe = read_recipe(folder)
            model, tokenizer = _load(folder / recipe.path, DTYPES[precision])
            limits = (max_length, recipe.max_length, tokenizer.model_max_length, positions(model))
            length = min(limit for limit in limits if limit)
            encode = partial(_encode, model, tokenizer, replace(recipe, max_length=length), BATCHES[precision])
            encode(["a " * length])  # as long as any will be
    except ModelError as error:
        raise EncoderError(f"encoder: {error}") from None
    model.to(loading.pick_device(device))
    return encode


def _load(folder: Path, dtype: torch.dtype):
    """Model and tokenizer; ModelError where weights are missing, or blocks of them left over."""
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, padding_side="right")
    model, told = AutoModel.from_pretrained(
        folder, config=read_config(folder), dtype=dtype, use_safetensors=True, trust_remote_code=False,
        output_loading_info=True,
    )  # fmt: skip
    missing = [key for key in told["missing_keys"] if not key.startswith("pooler.")]  # no vector comes from it
    left_over = [key for key in told["unexpected_keys"] if re.search(r"\.\d+\.", key)]  # a head may be
    if missing or left_over:
        raise ModelError(f"{folder}: weights are missing or left over ({min(missing + left_over)}); copy it again")
    check_numbers(folder, model)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= model.get_input_embeddings().num_embeddings:
        tokenizer.pad_token = tokenizer.eos_token  # the mask tells padding, not the id
    return model.eval(), tokenizer


def read_recipe(folder: Path) -> Recipe:
    """What modules.json of sentence-transformers and the files it names say; the mean where there is none."""
    if not (folder / "modules.json").exists():
        return Recipe()
    modules = {each["type"].split(".")[-1]: each["path"] for each in _json_of(folder / "modules.json")}
    if unknown := sorted(modules.keys() - {"Transformer", "Pooling", "Normalize"}):
        raise EncoderError(f"encoder: {folder}/modules.json has a {unknown[0]}, which is not known here; name another")
    path = modules["Transformer"]
    lengths = [_json_of(file) for file in (folder / path).glob("sentence_*_config.json")]
    reading = lengths[0] if lengths else {}
    pooling, saying = _json_of(folder / modules["Pooling"] / "config.json"), _json_of(folder / PROMPTS)
    prompt = saying.get("prompts", {}).get(saying.get("default_prompt_name"), "")
    if prompt and not pooling.get("include_prompt", True):
        raise EncoderError(f"encoder: {folder} leaves its prompt out of the pooling, which is not known; name another")
    return Recipe(
        path, _poolings(folder, pooling), "Normalize" in modules, reading.get("max_seq_length"),
        reading.get("do_lower_case", False), prompt,
    )  # fmt: skip


def _poolings(folder: Path, config: dict) -> tuple[str, ...]:
    """Names in POOLINGS that the config.json of a pooling module asks for: one by name, or a switch for each."""
    switches = [key.removeprefix("pooling_mode_") for key, on in config.items() if on is True]
    named = config.get("pooling_mode") or [mode for mode in switches if f"pooling_mode_{mode}" in config]
    asked = [re.sub("_tokens?$", "", mode) for mode in ([named] if isinstance(named, str) else named)]
    if unknown := sorted(set(asked) - set(POOLINGS)):
        raise EncoderError(f"encoder: {folder} pools by {unknown[0]}; known are {', '.join(POOLINGS)}; name another")
    return tuple(mode for mode in POOLINGS if mode in asked) or ("mean",)


def _json_of(path: Path):
    return json.loads(path.read_text()) if path.exists() else {}


@torch.inference_mode()
def _encode(model, tokenizer, recipe: Recipe, batch_size: int, texts: Sequence[str]) -> np.ndarray:
    """(n, d) vectors of texts by the recipe, those of like length at a time."""
    texts = [recipe.prompt + (text.lower() if recipe.lower_case else text) for text in texts]
    vectors, order = [], loading.batches_by_length([len(text) for text in texts], batch_size)
    for batch in order:
        inputs = tokenizer(
            [texts[i] for i in batch], padding=True, truncation=True, max_length=recipe.max_length, return_tensors="pt"
        ).to(model.device)
        hidden, mask = model(**inputs).last_hidden_state.float(), inputs["attention_mask"][:, :, None].float()
        pooled = torch.cat([POOLINGS[mode](hidden, mask) for mode in recipe.poolings], dim=1)
        vectors.append((normalize(pooled) if recipe.normalize else pooled).cpu().numpy())
    if not texts:
        return np.zeros((0, model.config.hidden_size * len(recipe.poolings)), dtype=np.float32)
    return np.concatenate(vectors)[np.argsort(np.concatenate(order))]
