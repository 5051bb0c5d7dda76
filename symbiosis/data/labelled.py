"""The labelled texts of a task, out of rows: each text cleaned once, on the way in, and each label a name of a class.

What was changed is said in a line; whatever cannot be used stops here, in one sentence with file and line. A number is
a label only where the file's own schema, or classes.txt beside it, says which name it stands for.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from symbiosis.data.cleaning import clean
from symbiosis.data.readers import READERS, DataError, Table, decoded, fetch, read_table
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.settings import RunSettings, derive_seed, resolve

AG_CLASSES = {"World", "Sports", "Business", "Sci/Tech"}


@dataclass(frozen=True)
class Source:
    """Everything read, before it is split: frames with columns text, label (int), source_id."""

    name: str
    label_names: list[str]
    rest: pd.DataFrame
    test: pd.DataFrame
    cleaned: Counter


def read(settings: RunSettings) -> Source:
    """The labelled texts of the miniature, of a folder, or of a hub data set at a pinned commit."""
    if settings.task == "miniature":
        return _read_miniature(settings)
    name, folder, cleaned = settings.task, resolve(settings.task), Counter()
    if folder.is_dir():
        train, test = (_read_folder(folder, stems) for stems in (("train",), ("test", "public_test")))
    else:
        tables = fetch("task", name, settings.task_revision, ("train", "test"))
        train, test = tables[:1], tables[1:]
        name = train[0].name.removesuffix("/train")
    lines = decoded(folder / "classes.txt").split("\n") if (folder / "classes.txt").is_file() else None
    listed = None if lines is None else [line.strip() for line in lines if line.strip()]
    names = (train[0].label_names or _names_of_rows(folder, train)) if listed is None else listed
    _check_names(folder, names)
    frames = [labelled_rows(tables, names, cleaned, listed) for tables in (train, test)]
    _say_classes(name, names, frames[0]["label"])
    return Source(name, names, *frames, cleaned)


def _say_classes(name: str, names: Sequence[str], labels: pd.Series) -> None:
    counts = dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))
    shown = ", ".join(f"{label} {n:,}" for label, n in list(counts.items())[:10]) + (", ..." if len(names) > 10 else "")
    rare = [label for label, n in counts.items() if n <= 1 and 1000 * n < len(labels)]
    doubt = f"; {len(rare)} with no more than one row: {', '.join(rare[:5])}" if rare else ""
    tqdm.write(f"{name}: {len(names)} classes in {len(labels):,} training rows: {shown}{doubt}")


def _read_miniature(settings: RunSettings) -> Source:
    """Draws from the seed's world; a few more than asked for outside the test, because a text can come up twice."""
    for name in ("train_size", "pool_size", "test_size"):
        if not getattr(settings, name):
            raise DataError(f"{name}: 0 takes all, but the miniature world has no end; give a number of rows")
    pool_rows = settings.pool_size * (1 if settings.pool_skew == "none" else 2)  # a skewed pool passes some over
    world, n_rest = World.make(settings.seed), settings.dev_size + settings.train_size + pool_rows
    frames = []
    for name, n in (("rest", n_rest + n_rest // 20 + 50), ("test", settings.test_size)):
        rng = np.random.default_rng(derive_seed(settings.seed, 0, "splits", name))
        frame = world.sample(n, rng)[["text", "label"]]
        frames.append(frame.assign(source_id=[f"{name}:{i}" for i in range(n)]))
    return Source("miniature", list(LABEL_NAMES), *frames, Counter())


def _read_folder(folder: Path, stems: Sequence[str]) -> list[Table]:
    """The one file `<stem>.<csv|jsonl|parquet>`, else the Parquet parts of a downloaded hub data set."""
    names = [f"{stem}{kind}" for stem in stems for kind in READERS if kind != ".txt"]
    paths = [folder / name for name in names if (folder / name).is_file()]
    if len(paths) > 1:
        raise DataError(f"{folder}: both {paths[0].name} and {paths[1].name} are there; keep one of them")
    paths = paths or sorted(folder.glob(f"data/{stems[0]}-*-of-*.parquet"))
    if not paths:
        raise DataError(f"{folder}: no {stems[0]} file; put one of {', '.join(names)} there")
    return [read_table(path) for path in paths]


def labelled_rows(
    tables: Sequence[Table], names: Sequence[str], cleaned: Counter, numbered: Sequence[str] | None
) -> pd.DataFrame:
    """Cleaned texts with labels as indices into `names`; `source_id` is file and line.

    A row's text is its text, else its title and description, else joined_text; its label is class_index (1 for the
    first class) or label: a name, or a number from 0 on. `numbered`: what the numbers of a file without a schema of its
    own stand for. What is AG News, by its columns or its classes, also loses AG News's own leftovers.
    """
    rows, of_ag_news = [], set(names) == AG_CLASSES
    places = {name: i for i, name in enumerate(names)}
    for table in tables:
        names_of_numbers = table.label_names or numbered
        by_name = not table.label_names and any(_number(name) is not None for name in numbered or ())
        counts, example = Counter(), ""
        for number, row in table.rows:
            where = table.where(number)
            label, before = _label(row, where, names_of_numbers, by_name), counts.total() - counts["space"]
            raw, text = _text(row, where, counts, of_ag_news or "class_index" in row)
            if not isinstance(label, str) or label not in places:
                known = ", ".join(f"{i} {name}" for i, name in enumerate(names))
                raise DataError(
                    f"{where}: unknown label {repr(label)[:50]} (known: {known[:100]}; a class_index is one more); "
                    "correct it, or add it to classes.txt"
                )
            if not example and counts.total() - counts["space"] > before:
                example = _difference(raw, text)
            rows.append((text, places[label], f"{Path(table.name).name}:{number}"))
        if example:
            changes = ", ".join(f"{n:,} {kind}" for kind, n in counts.most_common() if n)
            tqdm.write(f"{table.name}: repairs of its texts: {changes}; the first: {example}")
        cleaned.update(+counts)
    if not rows:
        raise _no_rows(tables)
    return pd.DataFrame(rows, columns=["text", "label", "source_id"])


def _no_rows(tables: Sequence[Table]) -> DataError:
    return DataError(f"{tables[0].name}: holds no rows; add some")


def _difference(raw: str, text: str) -> str:
    """Where two texts part, white space apart."""
    raw = " ".join(raw.split())
    same = next((i for i, (a, b) in enumerate(zip(raw, text, strict=False)) if a != b), len(text))
    start = max(0, same - 15)
    return f"{raw[start : start + 40]!r} became {text[start : start + 40]!r}"


def _text(row: dict[str, Any], where: str, counts: Counter, of_ag_news: bool) -> tuple[str, str]:
    """A row's text as it stands there, and cleaned."""
    story = [row.get("title"), row.get("description")]
    story = " ".join(story) if all(isinstance(part, str) for part in story) else None
    for raw in (row.get("text"), story, row.get("joined_text")):
        if isinstance(raw, str) and (text := clean(raw, counts, of_ag_news=of_ag_news)):
            return raw, text
    raise DataError(f"{where}: no text, or title and description, in {', '.join(row)}; fill or delete the row")


def _label(row: dict[str, Any], where: str, names: Sequence[str] | None, by_name: bool = False) -> Any:
    """The label as a name; a number by its place in `names`, or as a name itself where names are numbers (`by_name`).

    What is neither comes back as it is.
    """
    if "class_index" in row:
        number = _number(row["class_index"])
        if not number:
            raise DataError(f"{where}: class_index is {row['class_index']!r}; write 1 for the first class")
        number -= 1
    elif "label" in row:
        label = row["label"].strip() if isinstance(row["label"], str) else row["label"]
        number = _number(label)
        if by_name or not _is_like_a_number(label):
            return label if number is None or isinstance(label, str) else str(number)
        if number is None and names:
            return label
    else:
        raise DataError(f"{where}: no label or class_index in {', '.join(row)}; name one of the columns so")
    if not names:
        raise DataError(
            f"{where}: its label is a number, and nothing says what it stands for; write classes.txt beside the files, "
            "one name per line in the order of the numbers"
        )
    return names[number] if 0 <= number < len(names) else number


def _number(label: Any) -> int | None:
    if isinstance(label, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", label):
        return int(label)
    return label if isinstance(label, int) and not isinstance(label, bool) else None


def _is_like_a_number(label: Any) -> bool:
    """Whether it is a number in any spelling: 1, "1.0", -1, "1e3", full-width digits."""
    try:
        return not isinstance(label, bool) and label not in NO_VALUE and float(label) is not None
    except (TypeError, ValueError, OverflowError):
        return False


# --- names of labels -----------------------------------------------------------------------------------------------
NO_VALUE = ("", "nan", "NaN", "NAN", "None", "none", "null", "NULL", "NA", "N/A", "<NA>")  # written for no value
MOST_NAMES, LONGEST_NAME = 500, 100  # of classes that rows alone name, and characters of a name


def _names_of_rows(folder: Path, train: list[Table]) -> list[str]:
    """The sorted names that the train rows use."""
    counts = Counter()
    if not any(table.rows for table in train):
        raise _no_rows(train)
    for table in train:
        for number, row in table.rows:
            label = _label(row, table.where(number), table.label_names)
            if not isinstance(label, str):
                raise DataError(f"{table.where(number)}: label is {label!r}; write the name of a class")
            counts[label] += label not in NO_VALUE
    names = sorted(+counts)
    if len(names) > MOST_NAMES:
        raise DataError(
            f"{train[0].name}: {len(names):,} different labels ({names[0]!r}, {names[1]!r}, ...) are no classes; if "
            f"they are, name them in {folder / 'classes.txt'}"
        )
    _check_names(folder, names, counts)
    return names


def _check_names(folder: Path, names: Sequence[str], counts: Counter | None = None) -> None:
    """Stop at a name that is a second spelling of another, or that no reader of a prompt would take for a name."""
    if len(names) < 2:
        raise DataError(f"{folder}: label names are {list(names)}; two or more are needed")
    spelled: dict[str, str] = {}
    for name in names:
        if len(name) > LONGEST_NAME or not name.translate(JOINERS).isprintable():
            raise DataError(
                f"{folder}: label name {name[:LONGEST_NAME]!r} is longer than {LONGEST_NAME} characters or has some "
                "that nobody sees; rename it"
            )
        other = spelled.setdefault(_spelling(name), name)
        if other is not name:
            rows = f" ({counts[other]:,} and {counts[name]:,} rows)" if counts else ""
            raise DataError(
                f"{folder}: label names {other!r} and {name!r}{rows} differ in no more than case, quotes, white space, "
                "hyphens or Unicode form; spell them alike"
            )


JOINERS = {0x200C: None, 0x200D: None}  # part of the spelling in Persian and Indic scripts


def _spelling(name: str) -> str:
    """What is left of a name without case, quotes, white space, hyphens between letters and Unicode form."""
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    name = "".join(c for c in name if unicodedata.category(c) not in ("Cf", "Pi", "Pf"))
    name = re.sub(r"[\s_\"'`]|(?<=\w)[\u2010-\u2015-](?=\w)", "", name).strip(".,;:")
    return re.sub(r"(?<=[0-9])\.0+$", "", name) or name
