"""What small models are pre-trained on: a folder of plain text, a labelled CSV, and which of its texts are near."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from symbiosis.data.readers import READERS, DataError, Source, clean
from symbiosis.data.task import match_key
from symbiosis.settings import resolve

NEIGHBOURS = 3  # an explanation is one of that many nearest articles
COPY = 0.9  # cosine from which two articles are versions of one


def corpus_paths(role: str, corpus: str) -> list[Path]:
    """The files a role's corpus consists of."""
    return plain_files(corpus) if role == "student" else [labelled_file(corpus)]


def task_files(task: str) -> list[Path]:
    """The files of a task's folder, none for a hub id: their texts stay out of a corpus, their labels enter prompts."""
    kinds = {*READERS, ".txt"}
    return sorted(path for path in resolve(task).glob("*") if path.suffix in kinds) if resolve(task).is_dir() else []


# --- plain text ----------------------------------------------------------------------------------------------------


def read_plain(corpus: str) -> list[str]:
    """Documents of every .txt of a folder: one per line, or one per block of wrapped lines."""
    documents = [text for path in plain_files(corpus) for text in plain_documents(path)]
    if not documents:
        raise DataError(f"student_corpus: the .txt files of {resolve(corpus)} hold no text; put plain text there")
    return documents


def plain_files(corpus: str) -> list[Path]:
    folder = resolve(corpus)
    files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
    if not files:
        raise DataError(
            f"student_corpus: {folder} is {'a folder without .txt files' if folder.is_dir() else 'no folder'}; "
            "make it one that holds plain text, one document per line or paragraph"
        )
    return files


def plain_documents(path: Path) -> list[str]:
    """A file's documents, without Project Gutenberg's header and footer and WikiText's headings and marks.

    Where lines are wrapped (blank lines between blocks, no line longer than 100 characters) a block is a document.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error}); convert it or take it out of student_corpus") from None
    text = re.sub(r"(?s)\A.*?\n\*\*\* ?START OF .*?\n|\n\*\*\* ?END OF .*\Z", "", text)
    wrapped = re.search(r"\n\s*\n", text) and max(map(len, text.split("\n"))) <= 100
    pieces = re.split(r"\n\s*\n", text) if wrapped else text.split("\n")
    plain = (" ".join(unmark(piece).split()) for piece in pieces)
    return [piece for piece in plain if len(piece) >= 20]  # shorter ones are chapter numbers and captions


def unmark(text: str) -> str:
    """WikiText's ` = heading = ` becomes nothing; ` @-@ `, `<unk>` and the space before a comma go."""
    if re.fullmatch(r"\s*=.*=\s*", text):
        return ""
    text = re.sub(r" @([-,.])@ ", r"\1", text).replace("<unk>", "")
    return re.sub(r"\s+([,.;:!?)])", r"\1", text)


# --- labelled text -------------------------------------------------------------------------------------------------


def read_labelled(corpus: str, label_names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Cleaned texts and labels of a CSV with a header.

    Its columns: class_index (1-based) or label (a name); title and description, and where both are empty joined_text,
    or text.
    """
    path = labelled_file(corpus)
    texts, labels = [], []
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            for row in rows:
                text, label = _labelled_row(row, label_names, f"{path}, line {rows.line_num}")
                texts.append(text)
                labels.append(label)
        except (csv.Error, UnicodeDecodeError) as error:
            where = f"{path}, after line {rows.line_num}"
            raise DataError(f"{where}: cannot be read as UTF-8 CSV ({error}); correct the row") from None
    return texts, np.array(labels, dtype=np.int64)


def _labelled_row(row: dict, label_names: Sequence[str], where: str) -> tuple[str, int]:
    if None in row or None in row.values() or not {"class_index", "label"} & set(row):
        raise DataError(
            f"{where}: does not fit a header with class_index (or label) and title,description (or joined_text); "
            "complete the row or the header, and quote a text that holds commas"
        )
    whole = " ".join(row.get(name, "") for name in ("title", "description"))
    text = clean(whole) or clean(row.get("joined_text") or row.get("text") or "")
    if not text:
        raise DataError(f"{where}: no text in title, description, joined_text or text; fill or delete the row")
    number = "class_index" in row
    known = [str(i) for i in range(1, len(label_names) + 1)] if number else list(label_names)
    label = row["class_index" if number else "label"].strip()
    if label not in known:
        raise DataError(f"{where}: label {label!r} is none of {', '.join(known)}; the task has those")
    return text, known.index(label)


def labelled_file(corpus: str) -> Path:
    path = resolve(corpus)
    if not path.is_file():
        raise DataError(f"generator_corpus: {path} is no file; name a CSV with class_index,title,description")
    return path


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
    """(n, words) rows of unit length over words of three letters or more."""
    found = [re.findall(r"[a-z0-9]{3,}", text.lower()) for text in texts]
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
