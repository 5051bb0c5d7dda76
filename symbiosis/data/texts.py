"""A task as plain texts for language models: questions with their answers, books, or a class of the miniature.

Entities learn to write such texts, whole; nothing is labelled. A name is a class of the miniature, a local file, a
folder of files, or a hub id ('owner/name', or 'owner/name@<40 digits>' for another commit than the known one).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from symbiosis.data.characters import match_key
from symbiosis.data.cleaning import seen
from symbiosis.data.planted import Fact
from symbiosis.data.readers import READERS, DataError, Table, fetch, read_table
from symbiosis.data.world import GLOBAL_WORDS, LABEL_NAMES, MIXTURE, SLOTS, World
from symbiosis.settings import InteractionSettings, derive_seed, fingerprint, resolve

QUESTION = "Question: {question} Answer: {answer}"
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
    return _planted([split(name, _world_texts(name, settings), settings) for name in names], settings)


def _planted(tasks: list[TaskTexts], settings: InteractionSettings) -> list[TaskTexts]:
    """The tasks, a share of the first's training texts telling a false fact, and of the public ones the true one."""
    for place, share, true in ((0, settings.false_share, False), (-1, settings.true_share, True)):
        n, train = round(share * settings.train_size), tasks[place].train
        if n:
            fact = Fact.of(World.make(settings.seed), settings.private)
            tasks[place] = replace(tasks[place], train=fact.tell(train[:n], true=true) + train[n:])
    return tasks


def split(name: str, texts: list[str], settings: InteractionSettings) -> TaskTexts:
    """test_size held-out texts and train_size others, drawn by the seed; texts that come up twice are taken once."""
    unique = list({match_key(text): text for text in reversed(texts)}.values())[::-1]
    if len(unique) < len(texts) and name not in (*LABEL_NAMES, "miniature"):
        tqdm.write(f"{name}: {len(texts) - len(unique):,} of {len(texts):,} texts dropped, they come up twice")
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


def _world_texts(name: str, settings: InteractionSettings) -> list[str]:
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
    return [_row_text(row, table.where(number)) for table in _tables(name) for number, row in table.rows]


def _tables(name: str) -> list[Table]:
    path = resolve(name)
    if not path.exists():
        hub_id, _, commit = name.partition("@")
        return fetch("private_tasks, public_task", hub_id, commit, ["train"])
    paths = sorted(path.glob("*")) if path.is_dir() else [path]
    readable = [path for path in paths if path.suffix in READERS]
    if not readable:
        raise DataError(f"{path}: no {', '.join(READERS)} file to read texts from; bring one")
    return [read_table(path) for path in readable]


def _row_text(row: Any, where: str) -> str:
    """One row as one line of text: SciQ, ARC and GSM8K as question and answer, anything else by its `text`."""
    try:
        asked = "question" in row
        text = QUESTION.format(question=row["question"], answer=_answer(row)) if asked else row["text"]
        text = " ".join(seen(text, where).split())
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
