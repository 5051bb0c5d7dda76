"""One reader of rows for tasks, corpora and task texts: CSV, JSON lines, Parquet, plain text and the hub.

Python's own csv and json, and pyarrow: they take no text for a number or a missing value ("NA", "007" stay as written)
and know the line, which readers that guess types do not. Every labelled text is cleaned once, on the way in, and what
was changed is said in a line; whatever cannot be used stops here, in one sentence with file and line. A number is a
label only where the file's own schema, or classes.txt beside it, says which name it stands for.
"""

import csv
import io
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
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from symbiosis.data.cleaning import clean, seen
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
AG_CLASSES = {"World", "Sports", "Business", "Sci/Tech"}
NOT_TEXT = {  # how files of other kinds begin
    b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"PK\x03\x04": "a zip or Excel file",
    b"PAR1": "Parquet",
}  # fmt: skip
MOST = 300  # characters of a sentence, whatever the data put into it


class DataError(SymbiosisError, ValueError):
    """Data that cannot be used: one sentence with file, line, key and remedy; what is long stands in its middle."""

    def __init__(self, message: str):
        message = "".join(c if c.isprintable() else " " for c in message)
        super().__init__(message if len(message) <= MOST else f"{message[: MOST - 105]} ... {message[-100:]}")


# --- rows ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Table:
    """Rows as they stand in one file or split, each with the number of its line or row."""

    name: str
    rows: list[tuple[int, dict[str, Any]]]
    unit: str = "row"  # what the numbers count
    label_names: list[str] | None = None  # what its numbers stand for, where its schema or classes.txt says so

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
            f"{key}: {resolve(name)} is not there; put files there or, if {Path(name).name} is a hub id, give a commit "
            f"of it, 40 digits: as task_revision, for texts as owner/name@<40 digits> (known: {', '.join(HUB)})"
        )
    try:
        data = datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # the hub client raises a dozen unrelated types, and none of them names a way out
        raise DataError(
            f"{key}: {name}@{revision} cannot be fetched ({type(error).__name__}); with a network run `hf download "
            f"{name} --repo-type dataset --revision {revision} --local-dir FOLDER` and name FOLDER instead"
        ) from None
    if missing := [split for split in splits if split not in data]:
        raise DataError(f"{key}: {name}@{revision} has no split '{missing[0]}'; bring such files in a folder")
    return [
        Table(
            f"{name}@{revision}/{split}",
            list(enumerate(data[split].to_list(), 1)),
            label_names=getattr(data[split].features.get("label"), "names", None),
        )
        for split in splits
    ]


def _decoded(path: Path) -> str:
    """The text of a file, with every kind of line end as a line feed; a file of another kind is named."""
    content = path.read_bytes()
    kind = next((kind for start, kind in NOT_TEXT.items() if content.startswith(start)), None)
    if not kind and len(content) > 3 and b"\0\0" in (content[:4:2], content[1:4:2]):
        kind = "UTF-16"
    if kind:
        raise DataError(f"{path}: is {kind}, not UTF-8 text; save or unpack it as UTF-8, or give it its own ending")
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise DataError(f"{path}, line {line}: is not UTF-8 (byte 0x{byte:02x}); save the file as UTF-8") from None


def _read_csv(path: Path) -> Table:
    """Columns by the header's names, "Class Index" as class_index; three columns without a header are AG News."""
    columns, rows, start = [], [], 1
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(_decoded(path)), strict=True)
    try:
        for cells in reader:
            if cells and not columns:
                columns, cells = _header(cells)
            if cells and len(cells) != len(columns):
                raise ValueError(f"{len(cells)} columns where {','.join(columns)[:80]} has {len(columns)}")
            if cells:
                rows.append((start, dict(zip(columns, cells, strict=True))))
            start = reader.line_num + 1
    except (csv.Error, ValueError) as error:
        raise DataError(
            f"{path}, line {start}: cannot be read as CSV ({error}); correct this row, and quote a text that holds "
            "commas or line ends"
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
    for number, line in enumerate(_decoded(path).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line, object_pairs_hook=_unique)
                if not isinstance(row, dict):
                    raise ValueError(f"a {type(row).__name__}")
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: no JSON object ({error}); correct or delete it") from None
            rows.append((number, row))
    return Table(str(path), rows, "line")


def _read_parquet(path: Path) -> Table:
    try:
        _unique([(name, name) for name in pq.read_schema(path).names])
        table = pq.read_table(path)
        rows = list(enumerate(table.to_pylist(), 1))
    except (pa.ArrowException, ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}); write or copy it anew") from None
    try:
        names = _schema_names(table.schema)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: its 'huggingface' metadata cannot be read ({error}); write the file anew, with or without it"
        ) from None
    return Table(str(path), rows, label_names=names)


def _schema_names(schema: pa.Schema) -> list[str] | None:
    """The names a data set's ClassLabel gives the numbers of its column `label`."""
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    for key in ("info", "features", "label"):
        features = features.get(key) or {}
    names = features.get("names")
    strings = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if names is not None and not (strings and len(set(names)) == len(names)):
        raise ValueError(f"names are {names!r}")
    return names


def _read_text(path: Path) -> Table:
    """A file's documents, without Project Gutenberg's header and footer and WikiText's headings and marks.

    Where lines are wrapped (blank lines between blocks, no line longer than 100 characters) a block is a document, else
    a line.
    """
    text = seen(_decoded(path), str(path))
    text = re.sub(r"(?s)\A.*?\n\*\*\* ?START OF .*?\n|\n\*\*\* ?END OF .*\Z", "", text)
    wrapped = re.search(r"\n\s*\n", text) and max(map(len, text.split("\n"))) <= 100
    pieces = re.split(r"\n\s*\n", text) if wrapped else text.split("\n")
    documents = map(_without_marks, pieces)
    kept = [document for document in documents if len(document) >= 20]  # shorter: chapter numbers and captions
    return Table(str(path), [(i, {"text": document}) for i, document in enumerate(kept, 1)], "document")


def _without_marks(text: str) -> str:
    """WikiText's ` = heading = ` becomes nothing; ` @-@ `, `<unk>` and the space before a comma go."""
    if re.fullmatch(r"\s*=.*=\s*", text):
        return ""
    text = re.sub(r" @([-,.])@ ", r"\1", text).replace("<unk>", "")
    return re.sub(r" ([,.;:!?)])", r"\1", " ".join(text.split()))


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
    listed = listed_names(folder)
    names = (train[0].label_names or _names_of_rows(folder, train)) if listed is None else listed
    _check_names(folder, names)
    frames = [labelled_rows(tables, names, cleaned, numbered=listed) for tables in (train, test)]
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
    tables: Sequence[Table],
    names: Sequence[str],
    cleaned: Counter | None = None,
    *,
    numbered: Sequence[str] | None = None,
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
                raise _unknown(label, names, where)
            if not example and counts.total() - counts["space"] > before:
                example = _difference(raw, text)
            rows.append((text, places[label], f"{Path(table.name).name}:{number}"))
        if example:
            changes = ", ".join(f"{n:,} {kind}" for kind, n in counts.most_common() if n)
            tqdm.write(f"{table.name}: repairs of its texts: {changes}; the first: {example}")
        if cleaned is not None:
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
        return not isinstance(label, bool) and label not in MISSING and float(label) is not None
    except (TypeError, ValueError, OverflowError):
        return False


def _unknown(label: Any, names: Sequence[str], where: str) -> DataError:
    known = ", ".join(f"{i} {name}" for i, name in enumerate(names))
    return DataError(
        f"{where}: unknown label {repr(label)[:50]} (known: {known[:100]}; a class_index is one more); correct it, or "
        "add it to classes.txt"
    )


# --- names of labels -----------------------------------------------------------------------------------------------
MISSING = ("", "nan", "NaN", "NAN", "None", "none", "null", "NULL", "NA", "N/A", "<NA>")  # written for no value
MOST_NAMES, LONGEST_NAME = 500, 100  # of classes that rows alone name, and characters of a name


def listed_names(folder: Path) -> list[str] | None:
    """The lines of the folder's classes.txt."""
    path = folder / "classes.txt"
    return [line.strip() for line in _decoded(path).split("\n") if line.strip()] if path.is_file() else None


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
            counts[label] += label not in MISSING
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
