"""A task as plain texts for language models: questions with their answers, books, or a class of the miniature.

Entities learn to write such texts, whole; nothing is labelled. A name is a class of the miniature, a local file (JSON
lines, Parquet or plain text), a folder of such files, or a hub id, all read through one reader of rows.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from symbiosis.data.corpora import plain_documents
from symbiosis.data.readers import DataError
from symbiosis.data.task import match_key
from symbiosis.data.world import GLOBAL_WORDS, LABEL_NAMES, MIXTURE, SLOTS, World
from symbiosis.settings import InteractionSettings, derive_seed, fingerprint, resolve

QUESTION = "Question: {question} Answer: {answer}"
HUB = {  # hub id -> configuration and commit; others are written 'owner/name@<40 digits>'
    "allenai/sciq": (None, "2c94ad3e1aafab77146f384e23536f97a4849815"),
    "openai/gsm8k": ("main", "e53f048856ff4f594e959d75785d2c2d37b678ee"),
    "allenai/ai2_arc": ("ARC-Easy", "210d026faf9955653af8916fad021475a3f00453"),
}
FITS = "question with correct_answer, choices with answer_index or answerKey, or answer; or text"


@dataclass(frozen=True)
class TaskTexts:
    """Texts of one task; no test text is a training text."""

    name: str
    train: list[str]
    test: list[str]

    @property
    def fingerprint(self) -> str:
        return f"{self.name}@{fingerprint([self.train, self.test])}"


def load_tasks(settings: InteractionSettings) -> list[TaskTexts]:
    """The K private tasks and, last, the public one. Raises DataError where one cannot be had or is too small."""
    names = [*settings.private, settings.public_task]
    if settings.public_task != "miniature":
        return [split(name, read_texts(name), settings) for name in names]
    if unknown := [name for name in settings.private if name not in LABEL_NAMES]:
        raise DataError(
            f"private_tasks: '{unknown[0]}' is no class of the miniature ({', '.join(LABEL_NAMES)}); with files or hub "
            "ids set public_task to a file, folder or hub id, too"
        )
    return [split(name, _written(name, settings), settings) for name in names]


def split(name: str, texts: list[str], settings: InteractionSettings) -> TaskTexts:
    """test_size held-out texts and train_size others, drawn by the seed; texts that come up twice are taken once."""
    unique = list({match_key(text): text for text in reversed(texts)}.values())[::-1]
    needed = settings.test_size + (settings.train_size or 1)
    if not unique:
        raise DataError(f"{name}: holds no text; add some, or name another task")
    if len(unique) < needed:
        raise DataError(
            f"{name}: {len(unique)} different texts, but test_size + train_size ask for {needed}; lower them or add "
            "texts"
        )
    order = np.random.default_rng(derive_seed(settings.seed, 0, "splits", name)).permutation(len(unique))
    end = settings.test_size + settings.train_size if settings.train_size else None
    train, test = order[settings.test_size : end], order[: settings.test_size]
    return TaskTexts(name, [unique[i] for i in train], [unique[i] for i in test])


# --- the miniature -------------------------------------------------------------------------------------------------
def public_world(world: World) -> World:
    """The same world without classes: its templates, filled with words that all classes share.

        p(word | slot s) = .98 global list + .02 any word of slot s

    So public text shows how sentences are built, and next to nothing of what a class is about.
    """
    probabilities = np.zeros_like(world.probabilities)
    for s, slot in enumerate(SLOTS):
        shared = set(GLOBAL_WORDS.split(" / ")[s].split())
        is_shared = np.array([word in shared for word in world.slot_words[slot]])
        probabilities[s] = MIXTURE["any"] / len(is_shared) + (1 - MIXTURE["any"]) * is_shared / is_shared.sum()
    return replace(world, probabilities=probabilities)


def _written(name: str, settings: InteractionSettings) -> list[str]:
    """Draws of one class of the seed's world, or of its public text; a few more, because a text can come up twice."""
    if not settings.train_size:
        raise DataError("train_size: 0 takes all, but the miniature world has no end; give a number of texts")
    world, n = World.make(settings.seed), settings.train_size + settings.test_size
    rng = np.random.default_rng(derive_seed(settings.seed, 0, "texts", name))
    n += n // 20 + 20
    if name == "miniature":
        return public_world(world).sample(n, rng)["text"].tolist()
    return world.sample(n, rng, labels=np.full(n, LABEL_NAMES.index(name)))["text"].tolist()


# --- files and the hub ---------------------------------------------------------------------------------------------
def read_texts(name: str) -> list[str]:
    """All texts of a file, of a folder's files, or of the train split of a hub id."""
    path = resolve(name)
    if path.is_dir():
        paths = sorted(p for kind in READERS for p in path.glob(f"*{kind}"))
        if not paths:
            raise DataError(f"{path}: a folder without {', '.join(READERS)} files; put the task's texts there")
        return [text for p in paths for text in READERS[p.suffix](p)]
    if path.is_file():
        if path.suffix not in READERS:
            raise DataError(f"{path}: not a file that can be read here; bring one of {', '.join(READERS)}")
        return list(READERS[path.suffix](path))
    return [_text(row, f"{name}, row {i}") for i, row in enumerate(_hub_rows(name), 1)]


def _jsonl(path: Path) -> Iterator[str]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        where = f"{path}, line {number}"
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError:
                raise DataError(f"{where}: not JSON; correct or delete the line") from None
            yield _text(row, where)


def _parquet(path: Path) -> Iterator[str]:
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({type(error).__name__}); write or copy it anew") from None
    yield from (_text(row, f"{path}, row {i}") for i, row in enumerate(rows, 1))


READERS = {".jsonl": _jsonl, ".parquet": _parquet, ".txt": plain_documents}


def _text(row: Any, where: str) -> str:
    """One row as one line of text: SciQ, ARC and GSM8K as question and answer, anything else by its `text`."""
    try:
        asked = "question" in row
        text = QUESTION.format(question=row["question"], answer=_answer(row)) if asked else row["text"]
        text = " ".join(text.split())
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{where}: does not fit ({type(error).__name__}: {error}); a row has {FITS}") from None
    if not text:
        raise DataError(f"{where}: text is empty; fill or delete the row")
    return text


def _answer(row: Mapping[str, Any]) -> str:
    """The right answer in words; GSM8K's without the marks of its calculator."""
    if "correct_answer" in row:
        return row["correct_answer"]
    if "answer_index" in row:
        return row["choices"][row["answer_index"]]
    if "answerKey" in row:
        return row["choices"]["text"][row["choices"]["label"].index(row["answerKey"])]
    return re.sub(r"<<[^<>]*>>", "", row["answer"])


def _hub_rows(name: str):
    """The train split of a hub data set at a pinned commit, or one sentence with the way out."""
    import datasets

    hub_id, _, commit = name.partition("@")
    config, known = HUB.get(hub_id, (None, ""))
    revision = commit or known
    if not re.fullmatch(r"[0-9a-f]{40}", revision) or hub_id.count("/") != 1:
        raise DataError(
            f"private_tasks, public_task: '{name}' is no file or folder (looked at {resolve(name)}); put it there or, "
            f"if it is a hub id, write its commit behind it, 'owner/name@<40 digits>' (known without: {', '.join(HUB)})"
        )
    try:
        return datasets.load_dataset(hub_id, config, revision=revision, split="train")
    except Exception as error:  # the hub client raises a dozen unrelated types, and none of them names a way out
        raise DataError(
            f"{hub_id}@{revision} cannot be fetched ({type(error).__name__}); where there is a network, run `hf "
            f"download {hub_id} --repo-type dataset --revision {revision} --local-dir FOLDER`, copy FOLDER here and "
            "name the folder of its Parquet files instead"
        ) from None
