"""The small models: Student and Generator of a million parameters or two, pre-trained here on local text.

The Student (GPT-NeoX) reads plain text and nothing else, so it starts near chance. The Generator (Qwen2) learns the
three prompts of prompts.py from a labelled corpus. That corpus stands in for instruction tuning: the Generator knows
the task's classes by the time it is used, as Qwen2-0.5B-Instruct does, but never sees a text of the task's own files.
An explanation of X is taught as another article of X's class, one of its nearest by TF-IDF cosine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from symbiosis.data import corpora, readers
from symbiosis.data.characters import match_key
from symbiosis.data.readers import DataError
from symbiosis.models.chat import chat_ids
from symbiosis.models.loading import token_ids
from symbiosis.models.scoring import shorten
from symbiosis.models.training import bucketed_batches
from symbiosis.pretrain.recipe import Batch, Recipe, padded_batch
from symbiosis.prompts import read_prompts
from symbiosis.settings import fingerprint
from symbiosis.store.folders import digest

NEWS = read_prompts()  # the words these models learn to answer

END, PAD, USER, ASSISTANT = SPECIAL_TOKENS = ("<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SIZES = {  # 1.6 and 1.1 million weights
    "student": {"hidden": 128, "layers": 3, "intermediate": 512},
    "generator": {"hidden": 128, "layers": 3, "intermediate": 384},
}
VOCABULARY = 4096
TOKENIZER_CHARACTERS = 6_000_000  # of the corpus: more changes hardly a merge
ROOM = 16  # tokens a prompt may put around a text of max_length
BATCH_SIZE, LEARNING_RATE = 16, 3e-3
KIND_SHARES = {"write": 0.45, "explain": 0.30, "label": 0.25}  # of the Generator's steps


# --- the Student's corpus: plain text ------------------------------------------------------------------------------


def plain_lesson(role: str, settings, tasks, rng: np.random.Generator):
    """Tokenizer and windows of the corpus, no label anywhere, without the texts that will be tested on."""
    documents = corpora.read_plain(settings.student_corpus)
    if role == "interaction":
        tested = set(_test_keys(tasks))
        documents = [text for text in documents if match_key(text) not in tested]
        if not documents:
            raise DataError("student_corpus: every text is also a test text of a task; name another corpus")
    else:
        kept = corpora.outside_task(readers.read(settings), documents, "student_corpus")
        documents = [documents[i] for i in kept]
    tokenizer, n = byte_tokenizer(documents), settings.student_steps * BATCH_SIZE
    windows = packed_windows(tokenizer, documents, n, settings.max_length + ROOM, rng)
    return tokenizer, [(batch, batch) for batch in torch.from_numpy(windows).split(BATCH_SIZE)]


def _test_keys(tasks) -> list[str]:
    return sorted({match_key(text) for task in tasks for text in task.test})


def packed_windows(tokenizer, documents: Sequence[str], n: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(n, width) token ids: documents in random order, end-of-text between them; every window begins like one.

    The corpus is read again where it is short.
    """
    end, body = tokenizer.eos_token_id, width - 1
    stream: list[int] = []
    while len(stream) < n * body:
        order = rng.permutation(len(documents))
        for some in np.array_split(order, -(-len(order) // 2000)):
            if len(stream) < n * body:
                stream += [i for ids in token_ids(tokenizer, [documents[i] for i in some]) for i in (*ids, end)]
    windows = np.array(stream[: n * body]).reshape(n, body)
    return np.concatenate([np.full((n, 1), end), windows], axis=1)


# --- the Generator's corpus: labelled text -------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """What the Generator learns from: (n,) texts, their labels, and k near texts of the same class per text."""

    texts: list[str]
    labels: np.ndarray  # (n,) int
    label_names: list[str]
    near: np.ndarray  # (n, k) indices


def generator_lesson(role: str, settings, tasks, rng: np.random.Generator):
    """Tokenizer and batches of prompts with answers, one kind per batch, kinds in random order."""
    source = readers.read(settings)
    texts, labels = corpora.read_labelled(settings.generator_corpus, source.label_names)
    kept = corpora.outside_task(source, texts, "generator_corpus")
    texts, labels = [texts[i] for i in kept], labels[kept]
    corpora.check_classes(labels, source.label_names, settings.generator_corpus)
    tokenizer = byte_tokenizer([*texts, *source.label_names, *_prompt_texts()], chat_template=CHAT_TEMPLATE)
    near = np.stack(corpora.near_texts(texts, labels))
    corpus = Labelled(shorten(tokenizer, texts, settings.max_length), labels, source.label_names, near)
    batches = []
    for kind, steps in kind_steps(settings.generator_steps).items():
        asked, answers = _KINDS[kind](corpus, tokenizer, drawn(len(texts), steps * BATCH_SIZE, rng), rng)
        rows, prompt_lengths = answer_rows(tokenizer, asked, answers, settings.max_new_tokens)
        if kind == "explain":  # its hard text is one more article to learn the language from
            prompt_lengths = [0] * len(rows)
        batches += answer_batches(tokenizer, rows, prompt_lengths, rng)
    return tokenizer, [batches[i] for i in rng.permutation(len(batches))]


# --- prompts and answers -------------------------------------------------------------------------------------------


def _write(corpus: Labelled, tokenizer, rows: np.ndarray, rng: np.random.Generator):
    asked = [NEWS.write.format(label=name) for name in corpus.label_names]
    return [asked[corpus.labels[i]] for i in rows], [corpus.texts[i] for i in rows]


def _explain(corpus: Labelled, tokenizer, rows: np.ndarray, rng: np.random.Generator):
    answers = corpus.near[rows, rng.integers(corpus.near.shape[1], size=len(rows))]
    asked = [NEWS.explain.format(text=corpus.texts[i]) for i in rows]
    return asked, [corpus.texts[i] for i in answers]


def _label(corpus: Labelled, tokenizer, rows: np.ndarray, rng: np.random.Generator):
    asked = [NEWS.label_turn(corpus.texts[i], corpus.label_names) for i in rows]
    return asked, [corpus.label_names[corpus.labels[i]] for i in rows]


_KINDS = {"write": _write, "explain": _explain, "label": _label}


def kind_steps(steps: int) -> dict[str, int]:
    """Steps per prompt kind, `steps` in all."""
    counts = {kind: int(share * steps) for kind, share in KIND_SHARES.items()}
    return counts | {"label": counts["label"] + steps - sum(counts.values())}


def answer_rows(
    tokenizer, asked: Sequence[str], answers: Sequence[str], max_new_tokens: int
) -> tuple[list[list[int]], list[int]]:
    """Token rows `prompt answer end`, and the length of each prompt.

    An answer cut at max_new_tokens has no end-of-text: the model is not taught to stop in mid-sentence.
    """
    questions, texts = chat_ids(tokenizer, asked), token_ids(tokenizer, answers)
    ends = [ids[:max_new_tokens] + [tokenizer.eos_token_id] * (len(ids) < max_new_tokens) for ids in texts]
    return [q + a for q, a in zip(questions, ends, strict=True)], [len(q) for q in questions]


def answer_batches(tokenizer, rows: list[list[int]], prompt_lengths: list[int], rng) -> list[Batch]:
    """Batches of rows of like length; the prompts are not learned."""
    order = bucketed_batches([len(ids) for ids in rows], BATCH_SIZE, rng) if rows else []
    return [padded_batch(tokenizer, [rows[i] for i in b], [prompt_lengths[i] for i in b]) for b in order]


def drawn(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` of n indices, each used once before any is used again."""
    return np.concatenate([rng.permutation(n) for _ in range(-(-size // n))] or [np.empty(0, int)])[:size]


# --- tokenizer and recipes ----------------------------------------------------------------------------------------


def byte_tokenizer(texts: Sequence[str], *, chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """Byte-level BPE learned from texts: any text comes back exactly; end-of-text also begins documents."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    step = -(-sum(map(len, texts)) // TOKENIZER_CHARACTERS)
    tokenizer.train_from_iterator(texts[::step], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    fast.chat_template = chat_template
    return fast


def _prompt_texts() -> list[str]:
    """The Generator's templates with nothing in their fields."""
    templates = (NEWS.write, NEWS.explain, NEWS.label)
    return [template.format(text="", label="", labels=", or ") for template in templates]


def _loop_inputs(role: str, settings, tasks) -> dict:
    """Every byte of the role's corpus and of the task, and the lengths."""
    files = [*corpora.corpus_paths(role, getattr(settings, f"{role}_corpus")), *corpora.task_files(settings.task)]
    lengths = {"max_length": settings.max_length, "max_new_tokens": settings.max_new_tokens}
    return {"task": settings.task, "content": digest(files)} | lengths


def _interaction_inputs(role: str, settings, tasks) -> dict:
    """Every byte of the corpus, the texts left out, and the length."""
    corpus = digest(corpora.plain_files(settings.student_corpus))
    return {"corpus": corpus, "max_length": settings.max_length, "left out": fingerprint(_test_keys(tasks))}


RECIPES = {
    "student": Recipe(1, SIZES["student"], plain_lesson, _loop_inputs, LEARNING_RATE),
    "generator": Recipe(1, SIZES["generator"], generator_lesson, _loop_inputs, LEARNING_RATE),
    "interaction": Recipe(1, SIZES["student"], plain_lesson, _interaction_inputs, LEARNING_RATE),
}
