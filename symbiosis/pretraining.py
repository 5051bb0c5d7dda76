"""The made models: small Student and Generator, pre-trained on the spot once per seed and kept in `.cache/symbiosis`.

Assumption baked in: the Generator explains and labels more widely than it spontaneously writes. It learns
to write from (true shares)^2.2 (head-heavy), to label from (true shares)^1.2, to explain from the true shares. So a
static synthetic corpus misses the tails that the pool holds, and a Generator shown a rare text can write about it.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from tqdm.auto import tqdm
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from symbiosis import miniature, prompts
from symbiosis.miniature import LABEL_NAMES, World
from symbiosis.settings import RunSettings, derive_seed, fingerprint, resolve

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
KIND_SHARES = {"write": 0.25, "explain": 0.57, "label": 0.18}  # of the Generator's steps
KIND_POWERS = {"write": 2.2, "label": 1.2}  # p ~ share^power; explain follows the true shares


@dataclass(frozen=True)
class Recipe:
    """How one made model is pre-trained; the number of steps is a setting."""

    batch_size: int
    learning_rate: float = 8e-3  # AdamW's, after warm-up and before decay
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_share: float = 0.05  # of the steps: linear from 0; afterwards linear to 0


# Found on seed 0: small batches, a high rate after warm-up and wider initial weights than the default 0.02 together
# need a third of the computing time of 1300 steps of 32 at 4e-3.
RECIPES = {"student": Recipe(batch_size=32), "generator": Recipe(batch_size=16)}
INITIALIZER_RANGE = 0.06


def base_folder(role: str, settings: RunSettings) -> str:
    """Where the base model of a role ('student' or 'generator') is: a cached folder for made models, else its name.

    A made model is trained when its folder is absent; a lock keeps two jobs of one seed from training it twice.
    """
    name = getattr(settings, role)
    if name not in MAKERS:
        return name
    folder = resolve(".cache/symbiosis") / f"{role}-{_cache_key(name, role, settings)}"
    with _locked(folder):
        if not folder.is_dir():
            model, tokenizer = MAKERS[name](role, settings)
            _save(model, tokenizer, folder)
    return str(folder)


def make_miniature(role: str, settings: RunSettings):
    """(model, tokenizer) of the miniature world of `settings.seed`; the same bits for the same threads."""
    world = World.make(settings.seed)
    tokenizer = word_tokenizer(world, role)
    rng = np.random.default_rng(derive_seed(settings.seed, 0, f"{role}-base"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, 0, f"{role}-init"))
        model = _ARCHITECTURES[role](tokenizer)
    batches = _BATCHES[role](world, tokenizer, getattr(settings, f"{role}_steps"), RECIPES[role], rng)
    train(model, batches, RECIPES[role], desc=f"pre-training the {role}")
    return model, tokenizer


MAKERS: dict[str, Callable] = {"miniature": make_miniature}


# --- tokenizer ---------------------------------------------------------------------------------------------------


def word_tokenizer(world: World, role: str) -> PreTrainedTokenizerFast:
    """Word-level tokenizer of the world and of every prompt; the Generator's also has a chat template.

    Lower-cases, splits off punctuation; decoding puts '.' back onto its word, so that texts of the world round-trip.
    """
    splitter = pre_tokenizers.Whitespace()
    prompt_words = {w for text in _prompt_texts() for w, _ in splitter.pre_tokenize_str(text.lower())}
    words = [*SPECIAL_TOKENS, *sorted(prompt_words | set(world.vocabulary()))]
    tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), splitter
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # joins with spaces, then ' .' -> '.'
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<assistant>"],
        clean_up_tokenization_spaces=False,
    )
    if role == "generator":
        fast.chat_template = CHAT_TEMPLATE
    return fast


def _prompt_texts() -> list[str]:
    """Every template with nothing in its fields, and the label names."""
    templates = [getattr(prompts, name) for name in dir(prompts) if name.isupper()]
    return [t.format(text="", label="", labels=", or ") for t in templates] + list(LABEL_NAMES)


# --- what the models read ----------------------------------------------------------------------------------------


def student_batches(world: World, tokenizer, steps: int, recipe: Recipe, rng: np.random.Generator) -> list:
    """Unlabelled true documents `<bos> text <eos>`: the Student learns the language, and nothing about labels."""
    texts = world.sample(steps * recipe.batch_size, rng).text
    return _padded_batches(tokenizer, [f"<bos> {text} <eos>" for text in texts], recipe)


def generator_batches(world: World, tokenizer, steps: int, recipe: Recipe, rng: np.random.Generator) -> list:
    """Prompts with their answers, one kind per batch (no padding across kinds), kinds in random order."""
    counts = {kind: round(share * steps) for kind, share in KIND_SHARES.items()}
    counts["explain"] = steps - counts["write"] - counts["label"]
    batches = []
    for kind, count in counts.items():
        rows = _KIND_ROWS[kind](world, tokenizer, count * recipe.batch_size, rng)
        batches += _padded_batches(tokenizer, rows, recipe)
    return [batches[i] for i in rng.permutation(len(batches))]


def _write_rows(world: World, tokenizer, n: int, rng: np.random.Generator) -> list[str]:
    docs = world.sample(n, rng, shares=_sharpened(world.shares, KIND_POWERS["write"]))
    asked = [prompts.write_prompt(tokenizer, label) for label in LABEL_NAMES]
    return [f"{asked[label]}{text} <eos>" for label, text in zip(docs.label, docs.text, strict=True)]


def _explain_rows(world: World, tokenizer, n: int, rng: np.random.Generator) -> list[str]:
    """The answer is another document of the same subtopic."""
    docs = world.sample(n, rng)
    answers = world.sample(n, rng, labels=docs.label.to_numpy(), subtopics=docs.subtopic.to_numpy())
    asked = [prompts.explain_prompt(tokenizer, text) for text in docs.text]
    return [f"{prompt}{text} <eos>" for prompt, text in zip(asked, answers.text, strict=True)]


def _label_rows(world: World, tokenizer, n: int, rng: np.random.Generator) -> list[str]:
    docs = world.sample(n, rng, shares=_sharpened(world.shares, KIND_POWERS["label"]))
    asked = [prompts.label_prompt(tokenizer, text, list(LABEL_NAMES)) for text in docs.text]
    return [f"{prompt}{LABEL_NAMES[label]} <eos>" for prompt, label in zip(asked, docs.label, strict=True)]


def _sharpened(shares: np.ndarray, power: float) -> np.ndarray:
    """(K,) p ~ share^power, sum 1."""
    return shares**power / (shares**power).sum()


_KIND_ROWS = {"write": _write_rows, "explain": _explain_rows, "label": _label_rows}
_BATCHES = {"student": student_batches, "generator": generator_batches}


def _padded_batches(tokenizer, rows: list[str], recipe: Recipe) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(ids, lengths) pairs: (batch, T) right-padded, (batch,)."""
    encoded = tokenizer(rows, add_special_tokens=False)["input_ids"] if rows else []
    pairs = []
    for start in range(0, len(encoded), recipe.batch_size):
        chunk = [torch.tensor(tokens) for tokens in encoded[start : start + recipe.batch_size]]
        lengths = torch.tensor([len(tokens) for tokens in chunk])
        ids = torch.nn.utils.rnn.pad_sequence(chunk, batch_first=True, padding_value=tokenizer.pad_token_id)
        pairs.append((ids, lengths))
    return pairs


# --- training ----------------------------------------------------------------------------------------------------


def train(model, batches: list, recipe: Recipe, *, desc: str) -> None:
    """Next-token cross-entropy on all tokens, AdamW. Padding is on the right: a causal model needs no mask for it."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=recipe.betas, weight_decay=0.0, fused=True)
    model.train()
    for step, (ids, lengths) in enumerate(tqdm(batches, desc=desc, leave=False)):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * _schedule(step, len(batches), recipe.warmup_share)
        learned = torch.arange(1, ids.shape[1]) < lengths[:, None]  # (batch, T - 1) targets that are not padding
        hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        logits = model.get_output_embeddings()(hidden[learned])
        loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:][learned])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def _schedule(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate at `step` of 0..steps-1: up linearly while warming up, then down towards 0."""
    warm = (step + 1) / (1 + warmup_share * steps)
    return min(1.0, warm) * (1 - step / steps)


def _neox(tokenizer) -> GPTNeoXForCausalLM:
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        rotary_pct=0.25,
        initializer_range=INITIALIZER_RANGE,
        max_position_embeddings=256,
        **_token_ids(tokenizer),
    )
    return GPTNeoXForCausalLM(config)


def _qwen2(tokenizer) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=INITIALIZER_RANGE,
        **_token_ids(tokenizer),
    )
    return Qwen2ForCausalLM(config)


_ARCHITECTURES = {"student": _neox, "generator": _qwen2}


def _token_ids(tokenizer) -> dict[str, int]:
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}


# --- cache -------------------------------------------------------------------------------------------------------


def _cache_key(name: str, role: str, settings: RunSettings) -> str:
    """Changes with whatever changes the weights: the settings used, and the source that uses them."""
    source = hashlib.sha256()
    for module in (miniature.__file__, prompts.__file__, __file__):
        source.update(Path(module).read_bytes())
    used = {"model": name, "role": role, "seed": settings.seed, "steps": getattr(settings, f"{role}_steps")}
    return fingerprint(used | {"source": source.hexdigest()})


@contextmanager
def _locked(folder: Path):
    """Only one process at a time makes the folder; the others wait, then find it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(folder.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _save(model, tokenizer, folder: Path) -> None:
    """Model and tokenizer appear in `folder` whole or not at all; the caller holds the lock."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a job that was killed
    try:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        os.replace(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
