"""What small models are pre-trained on: a folder of plain text, a labelled file, and which of its texts are near."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from symbiosis.data.characters import match_key, plain_words
from symbiosis.data.readers import READERS, DataError, Source, labelled_rows, listed_names, read_table
from symbiosis.settings import resolve

NEIGHBOURS = 3  # an explanation is one of that many nearest articles
COPY = 0.9  # cosine from which two articles are versions of one


def corpus_paths(role: str, corpus: str) -> list[Path]:
    """The files a role's corpus consists of."""
    return plain_files(corpus) if role == "student" else [_labelled_file(corpus)]


def task_files(task: str) -> list[Path]:
    """The files of a task's folder, none for a hub id: their texts stay out of a corpus, their labels enter prompts."""
    return sorted(path for path in resolve(task).glob("*") if path.suffix in READERS) if resolve(task).is_dir() else []


def plain_files(corpus: str) -> list[Path]:
    """The .txt files of a folder."""
    files = sorted(resolve(corpus).glob("*.txt"))
    if not files:
        raise DataError(
            f"student_corpus: {resolve(corpus)} is no folder with .txt files; make it one that holds plain text, one "
            "document per line or paragraph"
        )
    return files


def read_plain(corpus: str) -> list[str]:
    """Documents of every .txt of a folder: one per line, or one per block of wrapped lines."""
    documents = [row["text"] for path in plain_files(corpus) for _, row in read_table(path).rows]
    if not documents:
        raise DataError(f"student_corpus: the .txt files of {resolve(corpus)} hold no text; put plain text there")
    return documents


def _labelled_file(corpus: str) -> Path:
    path = resolve(corpus)
    if not path.is_file() or path.suffix not in READERS:
        raise DataError(f"generator_corpus: {path} is no file with texts and labels; name a .csv, .jsonl or .parquet")
    return path


def read_labelled(corpus: str, label_names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Cleaned texts and labels of a file with the columns of a task (see `readers.labelled_rows`).

    A number stands for a name of its own schema, of classes.txt beside it, or else of `label_names`.
    """
    path = _labelled_file(corpus)
    rows = labelled_rows([read_table(path)], label_names, numbered=listed_names(path.parent) or label_names)
    return rows["text"].tolist(), rows["label"].to_numpy()


def check_classes(labels: np.ndarray, label_names: Sequence[str], corpus: str) -> None:
    """Stop where a class has no two texts, one to be near the other."""
    missing = [name for i, name in enumerate(label_names) if (labels == i).sum() < 2]
    if missing:
        raise DataError(f"{resolve(corpus)}: fewer than two texts of {', '.join(missing)}; add some for the Generator")


def near_texts(texts: Sequence[str], labels: np.ndarray) -> list[np.ndarray]:
    """For each text the indices (k,) of its k <= NEIGHBOURS nearest of the same class.

    Nearest by the cosine of tf-idf vectors, tf-idf = (1 + log count) * log(n / texts with the word); versions of one
    article (cosine above COPY) are taken only where a class holds nothing else.
    """
    vectors = tf_idf(texts)
    k = min(NEIGHBOURS, np.bincount(labels)[np.unique(labels)].min() - 1)
    near = [np.empty(0)] * len(texts)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        for rows in np.array_split(members, -(-len(members) // 512)):
            cosine = (vectors[rows] @ vectors[members].T).toarray()
            cosine[cosine > COPY] -= 2
            cosine[rows[:, None] == members] = -9  # itself
            order = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
            for i, row in zip(rows, order, strict=True):
                near[i] = members[row]
    return near


def tf_idf(texts: Sequence[str]) -> sparse.csr_matrix:
    """(n, words) rows of unit length over words of three letters or more, or in scripts other than Latin of any length.

    In a corpus that is English, whose letters beyond ASCII are rarer than one in a hundred, these part words.
    """
    foreign = sum(c.isalpha() for text in texts if not text.isascii() for c in text if not c.isascii())
    if 100 * foreign < sum(map(len, texts)):
        found = [re.findall(r"[a-z0-9]{3,}", text.lower()) for text in texts]
    else:
        found = [[word for word in plain_words(text) if len(word) >= 3 or not word.isascii()] for text in texts]
    index = {word: i for i, word in enumerate(sorted({word for words in found for word in words}))}
    row = np.repeat(np.arange(len(texts)), [len(words) for words in found])
    column = np.array([index[word] for words in found for word in words], dtype=np.int64)
    shape = (len(texts), max(len(index), 1))
    counts = sparse.coo_matrix((np.ones(len(row), dtype=np.float32), (row, column)), shape=shape).tocsr()
    rarity = np.log(len(texts) / np.maximum(np.bincount(counts.indices, minlength=shape[1]), 1)).astype(np.float32)
    counts.data = (1 + np.log(counts.data)) * rarity[counts.indices]
    length = np.sqrt(counts.multiply(counts).sum(axis=1)).A1
    return sparse.diags((1 / np.maximum(length, 1e-9)).astype(np.float32)) @ counts


# --- the task's own texts ------------------------------------------------------------------------------------------


def outside_task(source: Source, texts: Sequence[str], key: str) -> list[int]:
    """Indices of the corpus texts that are in none of the task's files: what was read here would be no test there."""
    task = {match_key(text) for frame in (source.rest, source.test) for text in frame["text"]}
    kept = [i for i, text in enumerate(texts) if match_key(text) not in task]
    if len(kept) < len(texts):
        tqdm.write(f"{key}: {len(texts) - len(kept)} of {len(texts)} texts left out, they are also in {source.name}")
    if not kept:
        raise DataError(f"{key}: every text is also in {source.name}; name another corpus")
    return kept
