"""One reader of rows for tasks, corpora and task texts: CSV, JSON lines, Parquet, plain text and the hub.

Python's own csv and json, and pyarrow: they take no text for a number or a missing value ("NA", "007" stay as written)
and know the line, which readers that guess types do not. What cannot be read is one sentence with file and line.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from symbiosis.data.cleaning import seen
from symbiosis.errors import SymbiosisError
from symbiosis.settings import resolve

HUB = {  # hub id -> configuration, and the commit read where no other is given
    "fancyzhx/ag_news": (None, "eb185aade064a813bc0b7f42de02595523103ca4"),  # 120,000 train, 7,600 test, four classes
    "allenai/sciq": (None, "2c94ad3e1aafab77146f384e23536f97a4849815"),
    "openai/gsm8k": ("main", "e53f048856ff4f594e959d75785d2c2d37b678ee"),
    "allenai/ai2_arc": ("ARC-Easy", "210d026faf9955653af8916fad021475a3f00453"),
}
AG_NEWS = ("class_index", "title", "description")  # the columns of AG News's files, which may have no header
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
    tables = []
    for split in splits:
        names = getattr(data[split].features.get("label"), "names", None)
        tables.append(Table(f"{name}@{revision}/{split}", list(enumerate(data[split].to_list(), 1)), label_names=names))
    return tables


def decoded(path: Path) -> str:
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
    reader = csv.reader(io.StringIO(decoded(path)), strict=True)
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
    for number, line in enumerate(decoded(path).split("\n"), 1):
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
    text = seen(decoded(path), str(path))
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
