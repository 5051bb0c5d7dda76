"""Causal LMs from a local folder or the hub, through one loader with one set of safe defaults.

Weights are always fp32 (a checkpoint stored as fp16 would give NaN after a few AdamW steps), always safetensors, never
remote code. What is trained or scored under bf16 is autocast, not stored.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
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

from symbiosis.models import checks
from symbiosis.models.chat import stops
from symbiosis.models.checks import ModelError, library_errors
from symbiosis.models.devices import resolved_precision
from symbiosis.models.tokens import ended, start_ids, token_ids, tokens_that_hold
from symbiosis.models.weights import folder_of
from symbiosis.settings import resolve
from symbiosis.store.folders import atomic_folder, digest

transformers_logging.disable_progress_bar()  # a bar per weight file says nothing here

LOGITS_DIFFER = 1e-3  # of the largest logit: far more than rounding, far less than a missing operation
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


def load(name: str, revision: str = "", *, device: str = "auto") -> LanguageModel:
    """Model (fp32, eval mode) and tokenizer of fetched weights, a local folder or a hub id at a pinned commit.

    Raises ModelError where the folder holds no safetensors, the hub id has no pinned revision, or the hub is away, and
    for whatever `models.checks` and `check_forward` refuse.
    """
    folder = find(name, revision)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder}: no .safetensors file; convert it with `AutoModelForCausalLM.from_pretrained(...)"
            ".save_pretrained(folder)` where you trust its pickle, none is ever loaded here"
        )
    with library_errors(folder):
        config = checks.read_config(folder)
        types = checks.check_causal(folder, config)
        tokenizer = read_tokenizer(folder)
        if (folder / "generation_config.json").exists():
            GenerationConfig.from_pretrained(folder)  # the model itself would do without a broken one
        model, told = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
        checks.check_weights(folder, model, told, types)
        checks.check_vocabulary(folder, model, tokenizer)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= model.get_input_embeddings().num_embeddings:
        tokenizer.pad_token = tokenizer.eos_token  # padding is told by the attention mask, never by the id
    ends = {*stops(tokenizer)[0], *checks.as_list(model.generation_config.eos_token_id)} - {None}
    model.generation_config = GenerationConfig(eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id)
    lm = LanguageModel(model.to(pick_device(device)).eval(), tokenizer)
    with library_errors(folder, "name a model of another kind"):
        check_forward(lm)
    return lm


def end_tokens(lm: LanguageModel, texts: tuple[str, ...] = ()) -> list[int]:
    """Tokens after which nothing is drawn: the model's own ends, and those that hold one of the `texts`."""
    return checks.as_list(lm.model.generation_config.eos_token_id) + list(tokens_that_hold(lm.tokenizer, texts))


def local_folder(name: str) -> Path | None:
    """The folder of fetched weights or of a path; None of a hub id."""
    return folder_of(name) or (resolve(name) if resolve(name).is_dir() else None)


def find(name: str, revision: str = "") -> Path:
    """The folder of a model; that of a hub id at its commit is downloaded where needed."""
    return local_folder(name) or download(name, revision)


@torch.inference_mode()
def check_forward(lm: LanguageModel) -> None:
    """Raise ModelError unless a short row has the same logits in every way that they are asked for here."""
    model, size = lm.model, lm.model.get_input_embeddings().num_embeddings
    row = [i * size // 7 for i in range(1, 1 + min(6, checks.positions(model) or 6))]
    ids = torch.tensor([row], device=model.device)
    expected = model(input_ids=ids).logits[0]
    trunk = model.get_decoder()(input_ids=ids, use_cache=False)
    padded = pad(lm.tokenizer, [row, row[:-1]], left=True, device=model.device)
    found = {
        "where only hidden states are given": own_logits(model, type(trunk), trunk.last_hidden_state[0])[-2],
        "where the text goes on: it is not causal": model(input_ids=ids[:, :-1]).logits[0, -1],
        "beside a longer text": model(**padded, logits_to_keep=1).logits[1, -1],
    }
    for where, logits in found.items():
        if not (logits - expected[-2]).abs().max() <= LOGITS_DIFFER * expected.abs().max():  # also where one is nan
            raise ModelError(
                f"{model.config._name_or_path}: {type(model).__name__} gives other likelihoods {where}; name a causal "
                "language model"
            )


def own_logits(model: PreTrainedModel, made: type, hidden: torch.Tensor) -> torch.Tensor:
    """(n, V) logits of hidden states (n, d), by the model's own forward: its head, and all it does to what that gives.

    Its trunk, whose output is a `made`, stands aside and hands over the states.
    """
    trunk, given = model.get_decoder(), made(last_hidden_state=hidden[None])
    trunk.forward = lambda *args, **kwargs: given
    try:
        return model(input_ids=hidden.new_zeros(1, len(hidden), dtype=torch.long)).logits.squeeze(0)
    finally:
        vars(trunk).pop("forward")  # the class' own shows again


@torch.inference_mode()
def logit_scale(lm: LanguageModel) -> float:
    """What the model multiplies its head's output by: 1 for most. Raises ModelError where it does anything else."""
    ids = torch.arange(1, 5, device=lm.device)[None]
    trunk = lm.model.get_decoder()(input_ids=ids, use_cache=False)
    alone = lm.model.get_output_embeddings()(trunk.last_hidden_state[0])
    logits = own_logits(lm.model, type(trunk), trunk.last_hidden_state[0])
    scale = ((logits * alone).sum() / (alone * alone).sum()).item()
    if not (logits - scale * alone).abs().max() <= LOGITS_DIFFER * logits.abs().max():
        raise ModelError(
            f"{lm.model.config._name_or_path}: {type(lm.model).__name__} bends its logits, so that feedback "
            "'gradient_norm' is not known for it; choose another feedback"
        )
    return scale


def weights_digest(folder: Path) -> str:
    """sha256 over the files of a model, in the order of their names: which weights these really are.

    The parts of an encoder that lists them in modules.json stand in folders of their own.
    """
    look = folder.rglob if (folder / "modules.json").exists() else folder.glob
    return digest(sorted({path for pattern in FILES for path in look(pattern)}))


def named_weights(role: str, folder: Path) -> dict[str, str]:
    """The folder's name (of a hub model its own, with the commit that was really resolved) and what is in it."""
    name = f"{folder.parts[-3]}@{folder.name}" if folder.parent.name == "snapshots" else folder.name
    return {role: name, f"{role}_weights": weights_digest(folder)}


def use_threads(threads: int) -> None:
    """CPU threads of torch, 0 for all cores. Sums depend on their number."""
    torch.set_num_threads(threads or os.cpu_count() or 1)


def pick_device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("device: 'cuda', but torch finds no GPU here; set it to auto or cpu")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


@contextlib.contextmanager
def autocast(model: PreTrainedModel, precision: str) -> Iterator[None]:
    """bf16 autocast where `precision` comes to it; the weights stay fp32.

    On a CPU the backward pass of torch's fused attention takes ten times as long in bf16 as plain products do, so
    attention that is to be differentiated is transformers' eager one there.
    """
    low, usual = resolved_precision(precision, model.device) == "bf16", model.config._attn_implementation
    slow = low and model.device.type == "cpu" and torch.is_grad_enabled() and usual == "sdpa"
    try:
        if slow:
            model.set_attn_implementation("eager")
        with torch.autocast(model.device.type, torch.bfloat16, enabled=low):
            yield
    finally:
        if slow:
            model.set_attn_implementation(usual)


def document_rows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """Token rows `start text end`, the text cut at `max_length`."""
    start, end = start_ids(tokenizer), [tokenizer.eos_token_id]
    rows = zip(token_ids(tokenizer, texts), texts, strict=True)
    return [start + ended(ids, text, max_length, end) for ids, text in rows]


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
    arrays = {"input_ids": ids, "attention_mask": mask, "position_ids": np.maximum(mask.cumsum(1) - 1, 0)}
    return {key: torch.from_numpy(value).to(device) for key, value in arrays.items()}


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """Index batches, longest rows first, so that hardly any padding is computed."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def download(name: str, revision: str) -> Path:
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
            f"{name}: could not be fetched ({checks.in_a_line(error)}). Where the hub cannot be reached, download the "
            f"model where it can (`hf download {name} --revision {revision} --local-dir models/{name.split('/')[-1]}`)"
            ", copy that folder here and name it in `student:` or `generator:`; a gated model also needs its licence "
            "accepted and a token"
        ) from None  # what the client says may hold the token, and a chained error would be printed in full


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """AutoTokenizer's, but the generic fast class's where the checkpoint declares it.

    AutoTokenizer would rebuild a Qwen2 checkpoint's tokenizer as byte-level BPE whatever its tokenizer.json says.
    """
    declared = get_tokenizer_config(folder).get("tokenizer_class")
    generic = declared in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return (PreTrainedTokenizerFast if generic else AutoTokenizer).from_pretrained(folder, trust_remote_code=False)
