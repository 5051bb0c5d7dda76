"""The miniature's models: a tiny Student and Generator, pre-trained here on the world of their seed.

Assumption baked in: the Generator labels, explains and names more widely than it spontaneously writes. It learns to
write from (true shares)^2.2 (head-heavy), to label from (true shares)^1.2, to explain from the true shares, to name a
subject, and to write about a named one, from (true shares)^1.2. So a static synthetic corpus misses the tails that the
pool holds, while a Generator shown a rare text, or asked for its subjects first, can write about it. The names are the
true subtopics' own, which is kinder to attribute prompts than a real Generator would be. The miniature world has one
style and one length, so these two fields of an attribute prompt change no text.

Two settings make other worlds of it, in which one of these ways to the tails is closed: `name_power`, by which naming
and writing about a name know the shares no better than writing (2.2), and `explain_by: class`, whose explanations are
texts of the source's class as the Generator writes them, whatever the source is about.
"""

from collections import defaultdict

import numpy as np
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from symbiosis.data.texts import public_world
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models.chat import chat
from symbiosis.models.loading import document_rows
from symbiosis.pretrain.recipe import Batch, Recipe, padded_batch
from symbiosis.prompts import read_prompts

NEWS = read_prompts()  # the words these models learn to answer

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
KIND_SHARES = {"write": 0.17, "explain": 0.52, "label": 0.15, "name": 0.06, "write_about": 0.10}  # of the steps
WRITE_POWER, LABEL_POWER = 2.2, 1.2  # p ~ share^power; explained are the true shares, of names `name_power` tells

# Found on seed 0: small batches, a high rate after warm-up and wider initial weights than the default 0.02 together
# need a third of the computing time of 1300 steps of 32 at 4e-3.
SIZES = {  # 150 and 100 thousand weights
    "student": {"hidden": 64, "layers": 2, "intermediate": 256, "positions": 256},
    "small": {"hidden": 32, "layers": 2, "intermediate": 128, "positions": 256},
    "generator": {"hidden": 64, "layers": 2, "intermediate": 128, "positions": 256},
}
STUDENT_BATCH, GENERATOR_BATCH = 32, 16
BPE_TOKENS = 900  # of entities that read pieces of words: a word of the world is 1.2 tokens on average


# --- tokenizer ---------------------------------------------------------------------------------------------------
def word_tokenizer(world: World, role: str) -> PreTrainedTokenizerFast:
    """Word-level tokenizer of the world and of every prompt; the Generator's also knows the names of the subtopics.

    Lower-cases, splits off punctuation; decoding puts '.' back onto its word, so that texts of the world round-trip.
    The Generator's has a chat template.
    """
    splitter = pre_tokenizers.Whitespace()
    prompt_words = {w for text in _prompt_texts() for w, _ in splitter.pre_tokenize_str(text.lower())}
    subtopics = {name for names in world.subtopics for name in names if role == "generator"}
    words = [*SPECIAL_TOKENS, *sorted(prompt_words | subtopics | set(world.vocabulary()))]
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


def bpe_tokenizer(world: World, tokens: int = BPE_TOKENS) -> PreTrainedTokenizerFast:
    """Byte-level BPE of so many tokens, learned from the world's text."""
    special, made = ["<pad>", "<bos>", "<eos>"], Tokenizer(BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    how = BpeTrainer(vocab_size=tokens, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(world.sample(1000, np.random.default_rng(0))["text"], how)
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def _prompt_texts() -> list[str]:
    """Every template of the file with nothing in its fields, every phrase that can fill one, and the label names."""
    found = NEWS.model_dump(exclude_unset=True).values()  # a template or a tuple of phrases
    texts = [text for value in found for text in ([value] if isinstance(value, str) else value)]
    fields = defaultdict(str, labels=", or ")
    return [text.format_map(fields) for text in texts] + list(LABEL_NAMES)


# --- what the models read ----------------------------------------------------------------------------------------
def student_batches(world: World, tokenizer, steps: int, batch_size: int, rng: np.random.Generator) -> list[Batch]:
    """Unlabelled true documents `<bos> text <eos>`: the Student learns the language, and nothing about labels."""
    texts = world.sample(steps * batch_size, rng)["text"].tolist()
    return _padded_batches(tokenizer, document_rows(tokenizer, texts), batch_size)


def generator_batches(world: World, tokenizer, settings, batch_size: int, rng: np.random.Generator) -> list[Batch]:
    """Prompts with their answers, one kind per batch (no padding across kinds), kinds in random order."""
    steps = settings.generator_steps
    counts = {kind: round(share * steps) for kind, share in KIND_SHARES.items()}
    counts["explain"] += steps - sum(counts.values())
    batches = []
    for kind, count in counts.items():
        rows = prompt_rows(kind, world, tokenizer, count * batch_size, rng, settings)
        ids = tokenizer(rows, add_special_tokens=False)["input_ids"] if rows else []
        batches += _padded_batches(tokenizer, ids, batch_size)
    return [batches[i] for i in rng.permutation(len(batches))]


def prompt_rows(kind: str, world: World, tokenizer, n: int, rng: np.random.Generator, settings) -> list[str]:
    """n rows `prompt answer <eos>` of one kind."""
    powers = {"write": WRITE_POWER, "label": LABEL_POWER, "explain": 1.0}
    docs = _documents(world, powers.get(kind, settings.name_power), n, rng)
    make = _explain_by_class if (kind, settings.explain_by) == ("explain", "class") else _KINDS[kind]
    asked, answers = make(world, docs, rng)
    return [chat(tokenizer, turn, f"{answer} <eos>") for turn, answer in zip(asked, answers, strict=True)]


def _documents(world: World, power: float, n: int, rng: np.random.Generator, **labels):
    """n documents, of balanced classes unless they are given, with subtopics p ~ share^power."""
    if power == 1:
        return world.sample(n, rng, **labels)
    sharpened = world.shares**power
    return world.sample(n, rng, shares=sharpened / sharpened.sum(), **labels)


def _to_write(world: World, docs, rng):
    asked = [NEWS.write.format(label=label) for label in LABEL_NAMES]
    return [asked[label] for label in docs.label], docs.text


def _to_explain(world: World, docs, rng):
    """The answer is another document of the same subtopic."""
    answers = world.sample(len(docs), rng, labels=docs.label.to_numpy(), subtopics=docs.subtopic.to_numpy())
    return [NEWS.explain.format(text=text) for text in docs.text], answers.text


def _explain_by_class(world: World, docs, rng):
    """The answer is a document of the same class as the Generator writes it, of any subtopic."""
    answers = _documents(world, WRITE_POWER, len(docs), rng, labels=docs.label.to_numpy())
    return [NEWS.explain.format(text=text) for text in docs.text], answers.text


def _to_label(world: World, docs, rng):
    asked = [NEWS.label_turn(text, LABEL_NAMES) for text in docs.text]
    return asked, [LABEL_NAMES[label] for label in docs.label]


def _name(world: World, docs, rng):
    """The answer is the name of a subtopic of the asked class."""
    asked = [NEWS.name.format(label=label) for label in LABEL_NAMES]
    return [asked[label] for label in docs.label], _subjects(world, docs)


def _write_about(world: World, docs, rng):
    """The answer is a document of the named subtopic.

    Assumption: style and length are drawn at random and change nothing, the miniature world has one of each.
    """
    styles, lengths = rng.choice(NEWS.styles, size=len(docs)), rng.choice(NEWS.lengths, size=len(docs))
    labels = [LABEL_NAMES[label] for label in docs.label]
    attributes = zip(labels, _subjects(world, docs), styles, lengths, strict=True)
    return [NEWS.write_about_turn(*each) for each in attributes], docs.text


def _subjects(world: World, docs) -> list[str]:
    return [world.subtopics[c][k] for c, k in zip(docs.label, docs.subtopic, strict=True)]


_KINDS = {"write": _to_write, "explain": _to_explain, "label": _to_label, "name": _name, "write_about": _write_about}


def _padded_batches(tokenizer, rows: list[list[int]], batch_size: int) -> list[Batch]:
    return [padded_batch(tokenizer, rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]


# --- recipes -----------------------------------------------------------------------------------------------------
def lesson(role: str, settings, rng: np.random.Generator):
    """Tokenizer and batches of a role in the seed's world; the interaction's model reads its public text alone."""
    world = World.make(settings.seed)
    if role == "generator":
        tokenizer = word_tokenizer(world, role)
        return tokenizer, generator_batches(world, tokenizer, settings, GENERATOR_BATCH, rng)
    tokenizer = bpe_tokenizer(world) if settings.student == "miniature_bpe" else word_tokenizer(world, "student")
    read = public_world(world) if role == "interaction" else world
    return tokenizer, student_batches(read, tokenizer, settings.student_steps, STUDENT_BATCH, rng)


RECIPES = {
    "student": Recipe(1, SIZES["student"], lesson),
    "generator": Recipe(1, SIZES["generator"], lesson),
    "interaction": Recipe(1, SIZES["student"], lesson),
}
ENTITIES = {  # one thing changed: half the width, another tokenizer, another architecture
    "miniature_small": {"interaction": Recipe(1, SIZES["small"], lesson)},
    "miniature_bpe": {"interaction": Recipe(1, SIZES["student"], lesson)},
    "miniature_qwen2": {"interaction": Recipe(1, SIZES["student"], lesson, architecture="generator")},
}
