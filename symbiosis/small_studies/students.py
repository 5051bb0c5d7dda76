"""The Students of the written world that small studies teach and ask."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, MambaConfig, PreTrainedTokenizerFast

from symbiosis import params
from symbiosis.data.dialled import Dial
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.loop.mixing import weak_labels
from symbiosis.models import loading
from symbiosis.models.scoring import text_losses
from symbiosis.models.student import Student
from symbiosis.pretrain import miniature
from symbiosis.pretrain.recipe import INITIALIZER_RANGE, train
from symbiosis.settings import make_settings

LESSON = 400  # texts
NARROW = 2.2  # p(subtopic) ~ share^power
REAL_SHARE, SAID_RIGHT = 0.75, 0.8  # of a lesson's rows; of the labels of rows that are not real
STEPS, LONGEST = 200, 320  # of pre-training; of a text, in tokens
TOKENS = {"bpe": 600, "pieces": 320}  # of a byte-level BPE: most words are two tokens, or one for two or three letters


def settings_of(arm: str, seed: int, **changes):
    return make_settings(f"arm {arm}", **params.of_run("miniature", "main", arm, seed) | changes)


def accuracy(student: Student, rows: pd.DataFrame) -> float:
    return float((student.label_log_probs(rows["text"].tolist()).argmax(1) == rows["label"]).mean())


def lessons_of(world: World, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """{share of real rows, as r075: text, label}: of LESSON rows none or REAL_SHARE, the others narrow.

    Of the labels of narrow rows the share SAID_RIGHT is right.
    """
    real, narrow = Dial().texts(world, LESSON, rng), Dial(NARROW).texts(world, LESSON, rng)
    narrow["label"] = weak_labels(narrow["label"], SAID_RIGHT, len(LABEL_NAMES), rng)
    kept = {f"r{100 * share:03.0f}": round(share * LESSON) for share in (0.0, REAL_SHARE)}
    return {name: pd.concat([real[:k], narrow[k:]], ignore_index=True) for name, k in kept.items()}


def continuation_losses(
    student: Student, texts: pd.DataFrame, firsts: Sequence[str]
) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    """Token rows of class and first sentence, the loss of what follows [nats/token], its tokens: (n,) each."""
    rows, _ = student.written_rows(texts["text"].tolist(), texts["label"])
    heads = [row[:-1] for row in student.written_rows(firsts, texts["label"])[0]]  # without an end
    loss = text_losses(student.lm, rows, [len(head) for head in heads], student.settings)
    return heads, loss, np.array([len(row) - len(head) for row, head in zip(rows, heads, strict=True)])


def pretrained(world: World, seed: int, *, tokenizer: str = "words", kind: str = "neox", hidden: int = 64):
    """A LanguageModel of two layers that has read the world's text, with a tokenizer made of other such text."""
    made, rng = tokenizer_of(world, tokenizer), np.random.default_rng([seed, 46])
    batches = miniature.student_batches(world, made, STEPS, miniature.STUDENT_BATCH, rng)
    ids = {f"{name}_token_id": getattr(made, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {
        "vocab_size": len(made),
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "initializer_range": INITIALIZER_RANGE,
    }
    attention = {"num_attention_heads": 4, "intermediate_size": 4 * hidden, "max_position_embeddings": 2 * LONGEST}
    config = {
        "neox": lambda: GPTNeoXConfig(rotary_pct=0.25, **sizes, **attention, **ids),
        "llama": lambda: LlamaConfig(**sizes, **attention, **ids),
        "mamba": lambda: MambaConfig(state_size=8, **sizes, **ids),
    }[kind]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    train(model, batches, miniature.RECIPES["student"], desc=f"pre-training {kind}")
    return loading.LanguageModel(model, made)


def tokenizer_of(world: World, kind: str) -> PreTrainedTokenizerFast:
    """Whole words, or byte-level BPE of TOKENS tokens, learned from the world's text; NAME_labels: and the labels."""
    name, _, labels = kind.partition("_")
    if name == "words":
        return miniature.word_tokenizer(world, "student")
    made = miniature.bpe_tokenizer(world, TOKENS[name])
    made.add_tokens([f" {label}" for label in LABEL_NAMES] if labels else [])
    return made
