"""The small made models: Student and Generator of a million parameters or two, pre-trained on the spot on local text.

The Student (GPT-NeoX) reads plain text and nothing else, so it starts near chance. The Generator (Qwen2) learns the
three prompts of prompts.py from a labelled corpus. That corpus stands in for instruction tuning: the Generator knows
the task's classes by the time it is used, as Qwen2-0.5B-Instruct does, but never sees a text of the task's own files.
An explanation of X is taught as another article of X's class, one of its nearest by TF-IDF cosine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from symbiosis import prompts
from symbiosis.data import corpora, readers
from symbiosis.models.loading import token_ids
from symbiosis.models.scoring import shorten
from symbiosis.models.training import bucketed_batches
from symbiosis.pretrain.recipe import Recipe, new_model, train
from symbiosis.settings import RunSettings, derive_seed
from symbiosis.store.folders import digest

END, PAD, USER, ASSISTANT = SPECIAL_TOKENS = ("<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>")
VERSION = 1  # of what is made here: raised when a change to the recipe, the world or a prompt changes the weights
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
RECIPE = Recipe(batch_size=16, learning_rate=3e-3)
KIND_SHARES = {"write": 0.45, "explain": 0.30, "label": 0.25}  # of the Generator's steps


def make_small(role: str, settings: RunSettings):
    """(model, tokenizer) of a role, pre-trained on its corpus; the same bits for the same corpus, seed and threads."""
    rng = np.random.default_rng(derive_seed(settings.seed, 0, f"{role}-base"))
    tokenizer, batches = _LESSONS[role](settings, rng)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, 0, f"{role}-init"))
        model = new_model(role, tokenizer, **SIZES[role], positions=max(512, 4 * settings.max_length))
    train(model, batches, RECIPE, desc=f"pre-training the {role}")
    return model, tokenizer


def cache_inputs(role: str, settings: RunSettings) -> dict:
    """What a small model's weights depend on beside seed and steps: lengths, every byte of corpus and task."""
    files = [*corpora.corpus_paths(role, getattr(settings, f"{role}_corpus")), *corpora.task_files(settings.task)]
    lengths = {"max_length": settings.max_length, "max_new_tokens": settings.max_new_tokens}
    return {"version": VERSION, "task": settings.task, "content": digest(files)} | lengths


# --- the Student's corpus: plain text ------------------------------------------------------------------------------


def student_lesson(settings: RunSettings, rng: np.random.Generator):
    """Tokenizer and packed windows: documents in random order, end-of-text between them, no label anywhere."""
    documents = corpora.read_plain(settings.student_corpus)
    kept = corpora.outside_task(readers.read(settings), documents, "student_corpus")
    documents = [documents[i] for i in kept]
    tokenizer = byte_tokenizer(documents)
    width = settings.max_length + ROOM
    n = settings.student_steps * RECIPE.batch_size
    windows = packed_windows(tokenizer, documents, n, width, rng)
    ids = torch.from_numpy(windows).split(RECIPE.batch_size)
    return tokenizer, [(batch, batch) for batch in ids]


def packed_windows(tokenizer, documents: Sequence[str], n: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(n, width) token ids; every window begins like a document. The corpus is read again where it is short."""
    end, body = tokenizer.eos_token_id, width - 1
    parts = []
    for chunk in _chunks(_forever(documents, rng), 2000):
        parts.append(np.array([i for ids in token_ids(tokenizer, chunk) for i in (*ids, end)]))
        if sum(map(len, parts)) >= n * body:
            break
    stream = np.concatenate(parts)[: n * body].reshape(n, body)
    return np.concatenate([np.full((n, 1), end), stream], axis=1)


# --- the Generator's corpus: labelled text -------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """What the Generator learns from: (n,) texts, their labels, and k near texts of the same class per text."""

    texts: list[str]
    labels: np.ndarray  # (n,) int
    label_names: list[str]
    near: np.ndarray  # (n, k) indices


def generator_lesson(settings: RunSettings, rng: np.random.Generator):
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
        asked, answers = _KINDS[kind](corpus, tokenizer, drawn(len(texts), steps * RECIPE.batch_size, rng), rng)
        whole = kind == "explain"  # its hard text is one more article to learn the language from
        batches += answer_batches(tokenizer, asked, answers, settings.max_new_tokens, rng, whole=whole)
    return tokenizer, [batches[i] for i in rng.permutation(len(batches))]


# --- prompts and answers -------------------------------------------------------------------------------------------


def _write(corpus: Labelled, tokenizer, rows: np.ndarray, rng: np.random.Generator):
    asked = [prompts.write_prompt(tokenizer, name) for name in corpus.label_names]
    return [asked[corpus.labels[i]] for i in rows], [corpus.texts[i] for i in rows]


def _explain(corpus: Labelled, tokenizer, rows: np.ndarray, rng: np.random.Generator):
    answers = corpus.near[rows, rng.integers(corpus.near.shape[1], size=len(rows))]
    return [prompts.explain_prompt(tokenizer, corpus.texts[i]) for i in rows], [corpus.texts[i] for i in answers]


def _label(corpus: Labelled, tokenizer, rows: np.ndarray, rng: np.random.Generator):
    asked = [prompts.label_prompt(tokenizer, corpus.texts[i], corpus.label_names) for i in rows]
    return asked, [corpus.label_names[corpus.labels[i]] for i in rows]


_KINDS = {"write": _write, "explain": _explain, "label": _label}


def kind_steps(steps: int) -> dict[str, int]:
    """Steps per prompt kind, `steps` in all."""
    counts = {kind: int(share * steps) for kind, share in KIND_SHARES.items()}
    return counts | {"label": counts["label"] + steps - sum(counts.values())}


def answer_batches(
    tokenizer, asked: Sequence[str], answers: Sequence[str], max_new_tokens: int, rng, *, whole: bool = False
) -> list:
    """(ids, targets) pairs (batch, T) of rows of like length; learned is the answer (else -100), or the whole row.

    An answer cut at max_new_tokens has no end-of-text: the model is not taught to stop in mid-sentence.
    """
    questions, texts = token_ids(tokenizer, asked), token_ids(tokenizer, answers)
    ends = [ids[:max_new_tokens] + [tokenizer.eos_token_id] * (len(ids) < max_new_tokens) for ids in texts]
    rows = [(q + a, 0 if whole else len(q)) for q, a in zip(questions, ends, strict=True)]
    order = bucketed_batches([len(ids) for ids, _ in rows], RECIPE.batch_size, rng) if rows else []
    return [_padded([rows[i] for i in batch], tokenizer.pad_token_id) for batch in order]


def _padded(rows: Sequence[tuple[list[int], int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids, targets = np.full((len(rows), width), pad), np.full((len(rows), width), -100)
    for i, (tokens, known) in enumerate(rows):
        ids[i, : len(tokens)] = tokens
        targets[i, known : len(tokens)] = tokens[known:]
    return torch.from_numpy(ids), torch.from_numpy(targets)


def drawn(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` of n indices, each used once before any is used again."""
    return np.concatenate([rng.permutation(n) for _ in range(-(-size // n))] or [np.empty(0, int)])[:size]


def _forever(documents: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    while True:
        yield from (documents[i] for i in rng.permutation(len(documents)))


def _chunks(items: Iterator[str], size: int) -> Iterator[list[str]]:
    while True:
        yield list(islice(items, size))


# --- tokenizer and architectures -----------------------------------------------------------------------------------


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
    templates = (prompts.GENERATOR_WRITE, prompts.GENERATOR_EXPLAIN, prompts.GENERATOR_LABEL)
    return [template.format(text="", label="", labels=", or ") for template in templates]


_LESSONS = {"student": student_lesson, "generator": generator_lesson}
