"""The rows one Student is taught in one generation: their columns, and their Parquet files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, List, Value
from datasets.table import InMemoryTable

from symbiosis.data.readers import DataError
from symbiosis.store.folders import write_atomic


class Written(str):
    """A text that a model wrote. `cut`: it stopped at max_new_tokens, so that where it ends is no end."""

    cut = False

    def __new__(cls, text: str, *, cut: bool = False):
        written = super().__new__(cls, text)
        written.cut = cut
        return written


def is_cut(text: str) -> bool:
    """Whether a text is known to have no end of its own."""
    return getattr(text, "cut", False)


LESSON = Features(
    text=Value("string"),
    label=Value("int64"),
    origin=Value("string"),  # real | generator | student | world
    generation=Value("int64"),
    prompt_kind=Value("string"),
    source_id=Value("string"),  # the row the text comes from or explains
    weight=Value("float64"),
    cut=Value("bool"),  # the writer stopped at max_new_tokens: the text has no end
    label_probs=List(Value("float64")),  # soft label over the classes; null where the label is certain
)


def make_lesson(
    texts: Sequence[str],
    labels: Iterable[int],
    origin: str,
    generation: int,
    prompt_kind: str,
    source_ids: Sequence[str] | None = None,
    *,
    label_probs: np.ndarray | None = None,
) -> Dataset:
    """n rows of one origin and prompt, of weight 1; without a source, and of a certain label, where none is given."""
    n = len(texts)
    columns = {
        "text": list(texts),
        "label": [int(label) for label in labels],
        "origin": [origin] * n,
        "generation": [generation] * n,
        "prompt_kind": [prompt_kind] * n,
        "source_id": [""] * n if source_ids is None else list(source_ids),
        "weight": [1.0] * n,
        "cut": [is_cut(text) for text in texts],
        "label_probs": [None] * n if label_probs is None else [[float(p) for p in row] for row in label_probs],
    }
    return Dataset.from_dict(columns, features=LESSON)


def texts_of(rows) -> list[str]:
    """The texts of a lesson, those that are cut marked as when they were written."""
    if "cut" not in rows.column_names:
        return rows["text"][:]
    return [Written(text, cut=cut) for text, cut in zip(rows["text"], rows["cut"], strict=True)]


def save_lesson(lesson: Dataset, path: str | Path) -> None:
    """Write Parquet; the file is whole or not there."""
    buffer = pa.BufferOutputStream()
    pq.write_table(lesson.with_format("arrow")[:], buffer)
    write_atomic(Path(path), buffer.getvalue().to_pybytes())


def load_lesson(path: str | Path) -> Dataset:
    """The rows of a Parquet file, in memory and unlinked from it."""
    try:
        return Dataset(InMemoryTable(pq.read_table(path)))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: no readable lesson ({type(error).__name__}); delete it, run again") from None
