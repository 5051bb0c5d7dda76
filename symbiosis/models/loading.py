"""Causal LMs from a local folder or the hub, through one loader with one set of safe defaults.

Weights are always fp32 (a checkpoint stored as fp16 would give NaN after a few AdamW steps), always safetensors, never
remote code. What is trained or scored under bf16 is autocast, not stored.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from huggingface_hub import get_token, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging as transformers_logging

from symbiosis.errors import SymbiosisError
from symbiosis.settings import resolve
from symbiosis.store.folders import atomic_folder, digest

transformers_logging.disable_progress_bar()  # a bar per weight file says nothing here

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # never a pickle
REVISIONS = {
    "EleutherAI/pythia-160m": "50f5173d932e8e61f858120bcb800b97af589f46",
    "Qwen/Qwen2-0.5B-Instruct": "c540970f9e29518b1d8f06ab8b24cba66ad77b6d",
}


class LanguageModel(NamedTuple):
    """A causal LM and its tokenizer, which go everywhere together."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def device(self) -> torch.device:
        return self.model.device

    def save(self, folder: Path) -> None:
        """Write a checkpoint any tool can load; the folder appears complete or not at all."""
        with atomic_folder(folder) as temporary:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)


class ModelError(SymbiosisError):
    """A model that cannot be had, with the remedy."""


def load(name: str, revision: str = "", *, device: str = "auto") -> LanguageModel:
    """Model (fp32, eval mode) and tokenizer of a local folder or a hub id at a pinned commit.

    Raises ModelError where the folder holds no safetensors, the hub id has no pinned revision, or the hub is away.
    """
    folder = resolve(name) if resolve(name).is_dir() else _download(name, revision)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder}: no .safetensors file; convert it with `AutoModelForCausalLM.from_pretrained(...)"
            ".save_pretrained(folder)` where you trust its pickle, none is ever loaded here"
        )
    try:
        tokenizer = _tokenizer_class(folder).from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: could not be loaded ({_short(error)}); copy or download it again, or delete it if it was "
            "pre-trained here: then it is made anew"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: its tokenizer has no end token; set eos_token in tokenizer_config.json")
    rows = model.get_input_embeddings().num_embeddings
    if (
        tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows
    ):  # none, or one the library added past the model
        tokenizer.pad_token = tokenizer.eos_token  # padding is told by the attention mask, never by the id
    stops = {tokenizer.eos_token_id, *_as_list(model.generation_config.eos_token_id)} - {None}
    model.generation_config = GenerationConfig(eos_token_id=sorted(stops), pad_token_id=tokenizer.pad_token_id)
    return LanguageModel(model.to(pick_device(device)).eval(), tokenizer)


def weights_digest(folder: Path) -> str:
    """sha256 over the files of a model, in the order of their names: which weights these really are.

    The parts of an encoder that lists them in modules.json stand in folders of their own.
    """
    look = folder.rglob if (folder / "modules.json").exists() else folder.glob
    return digest(sorted({path for pattern in FILES for path in look(pattern)}))


def use_threads(threads: int) -> None:
    """CPU threads of torch, 0 for all cores. Sums depend on their number."""
    torch.set_num_threads(threads or os.cpu_count() or 1)


def pick_device(device: str) -> torch.device:
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


@contextlib.contextmanager
def autocast(model: PreTrainedModel, precision: str) -> Iterator[None]:
    """bf16 autocast where `precision` asks for it; the weights stay fp32.

    On a CPU the backward pass of torch's fused attention takes ten times as long in bf16 as plain products do, so
    attention that is to be differentiated is transformers' eager one there.
    """
    low, usual = precision == "bf16", model.config._attn_implementation
    slow = low and model.device.type == "cpu" and torch.is_grad_enabled() and usual == "sdpa"
    try:
        if slow:
            model.set_attn_implementation("eager")
        with torch.autocast(model.device.type, torch.bfloat16, enabled=low):
            yield
    finally:
        if slow:
            model.set_attn_implementation(usual)


def start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token a document begins with: bos, or, in models without one, the end token that separates documents."""
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [] if first is None else [first]


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """Plain token ids of texts, without special tokens, cut at `max_length`."""
    if not texts:
        return []
    encoded = tokenizer(list(texts[:]), add_special_tokens=False)["input_ids"]  # a data set's column is slow by the row
    return [ids[:max_length] for ids in encoded]


def document_rows(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int | None = None,
    *,
    end_if_cut: bool = True,
) -> list[list[int]]:
    """Token rows `start text end`, the text cut at `max_length`; without `end_if_cut` a cut text has no end."""
    start, end = start_ids(tokenizer), [tokenizer.eos_token_id]
    rows = [(ids[:max_length], len(ids)) for ids in token_ids(tokenizer, texts)]
    return [start + ids + end * (end_if_cut or len(ids) == n) for ids, n in rows]


def pad(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]], *, left: bool, device
) -> dict[str, torch.Tensor]:
    """Token rows as one padded batch (n, T): input_ids, attention_mask, position_ids."""
    width = max(map(len, rows))
    ids = np.full((len(rows), width), tokenizer.pad_token_id)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, where], mask[i, where] = row, 1
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    arrays = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return {key: torch.from_numpy(value).to(device) for key, value in arrays.items()}


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """Index batches, longest rows first, so that hardly any padding is computed."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def _download(name: str, revision: str) -> Path:
    """The folder of a hub model at its pinned commit; from the cache where the hub cannot be reached."""
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(f"{name}: no such folder, and not a hub id of the form owner/name")
    revision = revision or REVISIONS.get(name, "")
    if not revision:
        raise ModelError(f"{name}: no pinned revision; name the commit in student_revision or generator_revision")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(
            f"{name}: could not be fetched ({_short(error)}). Where the hub cannot be reached, download the model "
            f"where it can (`hf download {name} --revision {revision} --local-dir models/{name.split('/')[-1]}`), copy "
            "that folder here and name it in `student:` or `generator:`; a gated model also needs its licence "
            "accepted and a token"
        ) from None  # what the client says may hold the token, and a chained error would be printed in full


def _tokenizer_class(folder: Path):
    """AutoTokenizer, but the generic fast class where the checkpoint declares it.

    AutoTokenizer would rebuild a Qwen2 checkpoint's tokenizer as byte-level BPE whatever its tokenizer.json says.
    """
    declared = get_tokenizer_config(folder).get("tokenizer_class")
    return PreTrainedTokenizerFast if declared in ("TokenizersBackend", "PreTrainedTokenizerFast") else AutoTokenizer


def _short(error: Exception) -> str:
    return redact(" ".join(str(error).split()))[:200]


def redact(text: str) -> str:
    """The text without the user's hub token, nor anything that looks like one."""
    token = get_token()
    return re.sub(r"hf_[A-Za-z0-9]{16,}", "[token]", text.replace(token, "[token]") if token else text)


def _as_list(value) -> list:
    return value if isinstance(value, list) else [value]
