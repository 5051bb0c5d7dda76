"""One reader of rows for tasks, corpora and task texts: CSV, JSON lines, Parquet, plain text and the hub.

Python's own csv and json, and pyarrow: they take no text for a number or a missing value ("NA", "007" stay as written)
and know the line, which readers that guess types do not. Every labelled text is cleaned once, on the way in; whatever
cannot be used stops here, in one sentence with file and line.
"""

import csv
import html
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from datasets.table import InMemoryTable

from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.errors import SymbiosisError
from symbiosis.settings import RunSettings, derive_seed, resolve

HUB = {  # hub id -> configuration, and the commit read where no other is given
    "fancyzhx/ag_news": (None, "eb185aade064a813bc0b7f42de02595523103ca4"),  # 120,000 train, 7,600 test, four classes
    "allenai/sciq": (None, "2c94ad3e1aafab77146f384e23536f97a4849815"),
    "openai/gsm8k": ("main", "e53f048856ff4f594e959d75785d2c2d37b678ee"),
    "allenai/ai2_arc": ("ARC-Easy", "210d026faf9955653af8916fad021475a3f00453"),
}
AG_NEWS = ("class_index", "title", "description")  # the columns of AG News's files, which may have no header


class DataError(SymbiosisError, ValueError):
    """Data that cannot be used: one sentence with file, line, key and remedy."""


# --- rows ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Table:
    """Rows as they stand in one file or split, each with the number of its line or row."""

    name: str
    rows: list[tuple[int, dict[str, Any]]]
    unit: str = "row"  # what the numbers count
    label_names: list[str] | None = None  # where the schema names its labels

    def where(self, number: int) -> str:
        return f"{self.name}, {self.unit} {number}"


def read_table(path: Path) -> Table:
    """All rows of a .csv, .jsonl, .parquet or .txt (its documents, as column text)."""
    return READERS[path.suffix](path)


def fetch(key: str, name: str, revision: str, splits: Sequence[str]) -> list[Table]:
    """Splits of a hub data set at a pinned commit, from the cache where it is there; `key` is the setting to blame."""
    config, pinned = HUB.get(name, (None, ""))
    revision = revision or pinned
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise DataError(
            f"{key}: '{name}' is not there (looked at {resolve(name)}); put its files there or, if it is a hub id, "
            "give a commit of it, 40 digits: as task_revision, or behind it as 'owner/name@<40 digits>' for texts "
            f"(known without one: {', '.join(HUB)})"
        )
    try:
        data = datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # the hub client raises a dozen unrelated types, and none of them names a way out
        raise DataError(
            f"{key}: {name}@{revision} cannot be fetched ({type(error).__name__}); where there is a network, run "
            f"`hf download {name} --repo-type dataset --revision {revision} --local-dir FOLDER`, copy FOLDER here "
            f"and name it, or the folder of its Parquet files, instead"
        ) from None
    if missing := [split for split in splits if split not in data]:
        raise DataError(f"{key}: {name}@{revision} has no split '{missing[0]}'; bring such files in a folder")
    return [_of_dataset(f"{name}@{revision}/{split}", data[split]) for split in splits]


def _of_dataset(name: str, data: datasets.Dataset) -> Table:
    rows = list(enumerate(data.to_list(), 1))
    return Table(name, rows, label_names=getattr(data.features.get("label"), "names", None))


def _read_csv(path: Path) -> Table:
    """Columns by the header's names, "Class Index" as class_index; three columns without a header are AG News."""
    columns, rows, start = [], [], 1
    with path.open("rb") as file:
        # decoded line by line, so that a wrong byte has a line number
        reader = csv.reader((line.decode("utf-8-sig") for line in file), strict=True)
        try:
            for cells in reader:
                if cells and not columns:
                    columns, cells = _header(cells)
                if cells and len(cells) != len(columns):
                    raise ValueError(f"{len(cells)} columns where {','.join(columns)} has {len(columns)}")
                if cells:
                    rows.append((start, dict(zip(columns, cells, strict=True))))
                start = reader.line_num + 1
        except (csv.Error, ValueError) as error:
            raise DataError(
                f"{path}, line {start}: cannot be read as UTF-8 CSV ({error}); correct this row, and quote a text "
                "that holds commas"
            ) from None
    return Table(str(path), rows, "line")


def _header(first: list[str]) -> tuple[list[str], list[str]]:
    """Column names, and the cells of the first row if it is not a header."""
    names = [cell.strip().lower().replace(" ", "_") for cell in first]
    if len(names) == 3 and names[0].isdigit():
        return list(AG_NEWS), first
    return list(_unique([(name, name) for name in names])), []


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A row, unless one value would hide another of the same name."""
    twice = [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return dict(pairs)


def _read_jsonl(path: Path) -> Table:
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line, object_pairs_hook=_unique)
                if not isinstance(row, dict):
                    raise ValueError(f"a {type(row).__name__}")
            except ValueError as error:
                raise DataError(f"{path}, line {number}: no JSON object ({error}); correct or delete it") from None
            rows.append((number, row))
    return Table(str(path), rows, "line")


def _read_parquet(path: Path) -> Table:
    try:
        _unique([(name, name) for name in pq.read_schema(path).names])
        table = pq.read_table(path)
    except (ValueError, OSError) as error:  # pyarrow's errors are of both kinds, and of several lines
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as Parquet ({reason}); write or copy it anew") from None
    return _of_dataset(str(path), datasets.Dataset(InMemoryTable(table)))


def _read_text(path: Path) -> Table:
    """A file's documents, without Project Gutenberg's header and footer and WikiText's headings and marks.

    Where lines are wrapped (blank lines between blocks, no line longer than 100 characters) a block is a document, else
    a line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error}); convert it or take it out of the folder") from None
    text = re.sub(r"(?s)\A.*?\n\*\*\* ?START OF .*?\n|\n\*\*\* ?END OF .*\Z", "", text)
    wrapped = re.search(r"\n\s*\n", text) and max(map(len, text.split("\n"))) <= 100
    pieces = re.split(r"\n\s*\n", text) if wrapped else text.split("\n")
    documents = (" ".join(_without_marks(piece).split()) for piece in pieces)
    kept = [document for document in documents if len(document) >= 20]  # shorter: chapter numbers and captions
    return Table(str(path), [(i, {"text": document}) for i, document in enumerate(kept, 1)], "document")


def _without_marks(text: str) -> str:
    """WikiText's ` = heading = ` becomes nothing; ` @-@ `, `<unk>` and the space before a comma go."""
    if re.fullmatch(r"\s*=.*=\s*", text):
        return ""
    text = re.sub(r" @([-,.])@ ", r"\1", text).replace("<unk>", "")
    return re.sub(r"\s+([,.;:!?)])", r"\1", text)


READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet, ".txt": _read_text,
}  # fmt: skip


# --- a task --------------------------------------------------------------------------------------------------------
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
    names = _label_names(folder, train)
    return Source(name, names, labelled_rows(train, names, cleaned), labelled_rows(test, names, cleaned), cleaned)


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


def labelled_rows(tables: Sequence[Table], names: Sequence[str], cleaned: Counter | None = None) -> pd.DataFrame:
    """Cleaned texts with labels as indices into `names`; `source_id` is file and line.

    A row's text is its text, else its title and description, else joined_text; its label is class_index (1 for the
    first class) or label: a name, or a number from 0 on.
    """
    rows = []
    for table in tables:
        for number, row in table.rows:
            where = table.where(number)
            label, text = _label(row, table, where), _text(row, where, cleaned)
            rows.append((text, _index(label, names, where), f"{Path(table.name).name}:{number}"))
    if not rows:
        raise DataError(f"{tables[0].name}: holds no rows; add some")
    return pd.DataFrame(rows, columns=["text", "label", "source_id"])


def _text(row: dict[str, Any], where: str, cleaned: Counter | None) -> str:
    story = [row.get("title"), row.get("description")]
    for text in (row.get("text"), " ".join(story) if None not in story else None, row.get("joined_text")):
        if isinstance(text, str) and (text := clean(text, cleaned)):
            return text
    raise DataError(f"{where}: no text, or title and description, in {', '.join(row)}; fill or delete the row")


def _label(row: dict[str, Any], table: Table, where: str) -> Any:
    """The label as a name or a number from 0 on; a number by the name that the file's own schema gives it."""
    if "class_index" in row:
        number = _number(row["class_index"])
        if not number:
            raise DataError(f"{where}: class_index is {row['class_index']!r}; write 1 for the first class")
        return number - 1
    if "label" not in row:
        raise DataError(f"{where}: no label or class_index in {', '.join(row)}; name one of the columns so")
    label, names = row["label"], table.label_names or []
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else label


def _label_names(folder: Path, train: list[Table]) -> list[str]:
    """From classes.txt, else from the train file's schema, else the sorted names that the train rows use."""
    path = folder / "classes.txt"
    if path.is_file():
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    elif train[0].label_names:
        names = train[0].label_names
    else:
        labels = [_label(row, table, table.where(number)) for table in train for number, row in table.rows]
        if any(_number(label) is not None for label in labels):
            raise DataError(f"{path}: missing; the labels are numbers, so write their names there, one per line")
        names = sorted({str(label).strip() for label in labels} - {"", "None"})
    spellings = {re.sub(r"[\s\"'“”‘’]", "", unicodedata.normalize("NFKC", name)).casefold() for name in names}
    if len(names) < 2 or len(spellings) < len(names):
        raise DataError(
            f"{folder}: label names are {names}; two or more are needed that differ in more than case, quotes and "
            "white space"
        )
    return names


def _index(label: Any, names: Sequence[str], where: str) -> int:
    """0-based index of a label given as a name or as a number."""
    if isinstance(label, str) and label.strip() in names:
        return names.index(label.strip())
    index = _number(label)
    if index is None or not 0 <= index < len(names):
        known = ", ".join(f"{i} {name}" for i, name in enumerate(names))
        raise DataError(
            f"{where}: unknown label {label!r} (known: {known}; a class_index is one more); correct it, or add it "
            "to classes.txt"
        )
    return index


def _number(label: Any) -> int | None:
    if isinstance(label, str) and re.fullmatch(r"\s*\d+\s*", label):
        return int(label)
    return label if isinstance(label, int) and not isinstance(label, bool) else None


# --- repairs -------------------------------------------------------------------------------------------------------
# AG News lost the '&' of its entities (" #39;s", " quot;", " amp;"), kept others ("&lt;b&gt;"), and writes "\" for a
# line break and "\$" for a dollar sign. The names are those that occur, with their closest kin: a list, because
# ordinary words before a semicolon ("the cup; it") are entity names too.
_NAMES = r"quot|amp|lt|gt|nbsp|hellip|[lr][sd]quo|[mn]dash|[A-Za-z](?:acute|grave|circ|uml|tilde|cedil)"
_REPAIRS: tuple[tuple[str, re.Pattern, Any], ...] = (
    ("entity", re.compile(rf"[ &](#\d+|#x[0-9a-fA-F]+|{_NAMES});"), lambda m: html.unescape(f"&{m[1]};")),
    ("tag", re.compile(r"</?([A-Za-z][A-Za-z0-9]*)\b[^<>]*>"), lambda m: " " if m[1].lower() in _BREAKS else ""),
    ("dollar", re.compile(r"\\\$"), "$"),
    ("backslash", re.compile(r"\\+"), " "),
    ("space", re.compile(r"^\s+|\s+$"), ""),
    ("space", re.compile(r"\s{2,}|[^\S ]"), " "),
)
_BREAKS = {"p", "br", "div", "td", "tr", "li", "table"}  # tags that part words; all others stand inside them


def clean(text: str, counts: Counter | None = None) -> str:
    """The text without AG News's leftovers of HTML; `counts` gains the number of repairs of each kind.

    Repeats until nothing changes, so that clean(clean(t)) == clean(t); it ends, because no repair adds a character.
    """
    before = None
    while text != before:
        before = text
        for kind, pattern, replacement in _REPAIRS:
            text, n = pattern.subn(replacement, text)
            if n and counts is not None:
                counts[kind] += n
    return text
