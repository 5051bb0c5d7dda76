"""The miniature's models: a tiny Student and Generator, pre-trained on the spot on the world of their seed.

Assumption baked in: the Generator explains and labels more widely than it spontaneously writes. It learns
to write from (true shares)^2.2 (head-heavy), to label from (true shares)^1.2, to explain from the true shares. So a
static synthetic corpus misses the tails that the pool holds, and a Generator shown a rare text can write about it.
"""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from symbiosis import miniature, pretraining, prompts
from symbiosis.files import digest
from symbiosis.miniature import LABEL_NAMES, World
from symbiosis.pretraining import Recipe, new_model, train
from symbiosis.settings import RunSettings, derive_seed

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
KIND_SHARES = {"write": 0.25, "explain": 0.57, "label": 0.18}  # of the Generator's steps
KIND_POWERS = {"write": 2.2, "label": 1.2}  # p ~ share^power; explain follows the true shares


# Found on seed 0: small batches, a high rate after warm-up and wider initial weights than the default 0.02 together
# need a third of the computing time of 1300 steps of 32 at 4e-3.
SIZES = {  # 150 and 100 thousand weights
    "student": {"hidden": 64, "layers": 2, "intermediate": 256, "positions": 256},
    "generator": {"hidden": 64, "layers": 2, "intermediate": 128, "positions": 256},
}
RECIPES = {"student": Recipe(batch_size=32), "generator": Recipe(batch_size=16)}


def make_miniature(role: str, settings: RunSettings):
    """(model, tokenizer) of the miniature world of `settings.seed`; the same bits for the same threads."""
    world = World.make(settings.seed)
    tokenizer = word_tokenizer(world, role)
    rng = np.random.default_rng(derive_seed(settings.seed, 0, f"{role}-base"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, 0, f"{role}-init"))
        model = new_model(role, tokenizer, **SIZES[role])
    batches = _BATCHES[role](world, tokenizer, getattr(settings, f"{role}_steps"), RECIPES[role], rng)
    train(model, batches, RECIPES[role], desc=f"pre-training the {role}")
    return model, tokenizer


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
    """(ids, targets) pairs, each (batch, T), right-padded; a target of -100 is not learned."""
    encoded = tokenizer(rows, add_special_tokens=False)["input_ids"] if rows else []
    pairs = []
    for start in range(0, len(encoded), recipe.batch_size):
        chunk = [torch.tensor(tokens) for tokens in encoded[start : start + recipe.batch_size]]
        values = (tokenizer.pad_token_id, -100)
        pairs.append(tuple(pad_sequence(chunk, batch_first=True, padding_value=value) for value in values))
    return pairs


def cache_inputs(role: str, settings: RunSettings) -> dict:
    """What a miniature model's weights depend on beside seed and steps: the source that writes the world and trains."""
    modules = (miniature, prompts, pretraining)
    return {"source": digest([Path(m.__file__) for m in modules] + [Path(__file__)])}
