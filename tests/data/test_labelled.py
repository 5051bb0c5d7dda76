"""Labelled texts from every kind of file and the hub, cleaned once; and one clear sentence for every bad input."""

import csv
import gzip
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from symbiosis.data.labelled import read
from symbiosis.data.readers import HUB, DataError
from symbiosis.settings import RunSettings, make_settings

ROOT = Path(__file__).resolve().parents[2]
AG_NEWS = ROOT / "../shared/data/ag_news"
NAMES = ["World", "Sports", "Business", "Sci/Tech"]


def rows(n, start=0):
    return [(f"Story number {i} of the day", i % 4) for i in range(start, start + n)]


def write_csv(stem, labelled, header="class_index,title,description\n"):
    lines = [f'"{label + 1}","{text}","told, at length"\n' for text, label in labelled]
    stem.with_suffix(".csv").write_text(header + "".join(lines))


def write_csv_without_header(stem, labelled):
    write_csv(stem, labelled, header="")


def write_csv_of_kaggle(stem, labelled):
    write_csv(stem, labelled, header="\ufeffClass Index,Title,Description\n")


def write_text_label_csv(stem, labelled):
    stem.with_suffix(".csv").write_text("text,label\n" + "".join(f"{text},{NAMES[y]}\n" for text, y in labelled))


def write_jsonl(stem, labelled, name=int):
    lines = [json.dumps({"text": text, "label": name(label)}) for text, label in labelled]
    stem.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")


def write_jsonl_names(stem, labelled):
    write_jsonl(stem, labelled, name=NAMES.__getitem__)


def write_parquet(stem, labelled):
    pd.DataFrame(labelled, columns=["text", "label"]).to_parquet(stem.with_suffix(".parquet"))


def data_set(labelled, names=NAMES):
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=names))
    columns = {"text": [text for text, _ in labelled], "label": [label for _, label in labelled]}
    return datasets.Dataset.from_dict(columns, features=features)


def write_hub_parquet(stem, labelled):
    """The layout and schema of a downloaded hub data set: label names stand in the schema, not in classes.txt."""
    (stem.parent / "data").mkdir(exist_ok=True)
    half = len(labelled) // 2
    for part, some in enumerate((labelled[:half], labelled[half:])):
        data_set(some).to_parquet(stem.parent / "data" / f"{stem.name}-0000{part}-of-00002.parquet")


def write_folder(folder, write=write_csv, train=None, test=None, classes=True):
    """A folder with 24 train and 6 test rows unless others are given; `write(path stem, rows)` makes a file."""
    folder.mkdir(exist_ok=True)
    write(folder / "train", rows(24) if train is None else train)
    write(folder / "test", rows(6, start=100) if test is None else test)
    if classes:
        (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def source(task, **changes):
    return read(make_settings(task=str(task), **changes))


def fails(task, message, **changes):
    with pytest.raises(DataError, match=message) as caught:
        source(task, **changes)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300


# --- formats -------------------------------------------------------------------------------------------------------
FORMATS = {  # whether classes.txt stands beside it
    write_csv: True, write_csv_without_header: True, write_csv_of_kaggle: True, write_text_label_csv: False,
    write_jsonl: True, write_jsonl_names: False, write_parquet: True, write_hub_parquet: False,
}  # fmt: skip


def test_every_format_gives_the_same_rows(tmp_path):
    for write, classes in FORMATS.items():
        found = source(write_folder(tmp_path / write.__name__, write, classes=classes))
        assert sorted(found.label_names) == sorted(NAMES), write
        end = " told, at length" if "csv" in write.__name__ and "label" not in write.__name__ else ""
        for frame, expected in ((found.rest, rows(24)), (found.test, rows(6, start=100))):
            assert frame["text"].tolist() == [text + end for text, _ in expected]
            assert [found.label_names[label] for label in frame["label"]] == [NAMES[label] for _, label in expected]


def test_source_ids_name_file_and_line_and_public_test_is_found(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "test.csv").rename(folder / "public_test.csv")
    assert source(folder).test["source_id"].tolist() == [f"public_test.csv:{i}" for i in range(2, 8)]


def test_line_numbers_survive_texts_with_line_breaks(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "train.csv").write_text('"1","Two\nlines","here"\n\n"9","a","b"\n')
    fails(folder, r"train\.csv, line 4: unknown label 8")


def test_labels_go_by_name_where_a_files_schema_names_them(tmp_path):
    for name, names, label in (("train", ["World", "Sports"], 0), ("test", ["Sports", "World"], 1)):
        data_set([(f"{name} a", label), (f"{name} b", 1 - label)], names).to_parquet(tmp_path / f"{name}.parquet")
    found = source(tmp_path)
    assert found.label_names == ["World", "Sports"] and found.test["label"].tolist() == [0, 1]
    (tmp_path / "classes.txt").write_text("\ufeffSports\nWorld\n")  # the order is its own, the meaning the schema's
    found = source(tmp_path)
    assert found.label_names == ["Sports", "World"] and found.test["label"].tolist() == [1, 0]
    (tmp_path / "classes.txt").unlink()
    data_set([("c", 0), ("d", 1)], ["World", "Weather"]).to_parquet(tmp_path / "test.parquet")
    fails(tmp_path, r"test\.parquet, row 2: unknown label 'Weather' \(known: 0 World, 1 Sports")


def test_a_number_is_no_label_where_nothing_says_what_it_stands_for(tmp_path):
    for train in ("text,label\na,World\nb,Sports\n", "text,label\na,1.0\nb,0.0\n", "text,label\na,\uff11\nb,-1\n"):
        (tmp_path / "train.csv").write_text(train)
        for test in ("text,label\nc,0\n", "1,title,story\n", "text,label\nc,1e0\n"):
            (tmp_path / "test.csv").write_text(test)
            fails(tmp_path, r"\.csv, line \d: its label is a number, and nothing says .*; write classes\.txt")
    (tmp_path / "train.csv").write_text("text,label\na,1\nb,2\nc,3\n")  # names that are numbers are names, no places
    (tmp_path / "test.csv").write_text("text,label\nc,3\n")
    (tmp_path / "classes.txt").write_text("1\n2\n3\n")
    assert (found := source(tmp_path)).rest["label"].tolist() == [0, 1, 2] and found.test["label"].tolist() == [2]
    (tmp_path / "test.csv").write_text("text,label\nc,0\n")
    fails(tmp_path, r"test\.csv, line 2: unknown label '0' \(known: 0 1, 1 2")


# --- bad input -----------------------------------------------------------------------------------------------------
BAD_CSV = {
    '"1","a","b"\n"2","c"\n': r"line 2: .*\(2 columns where .* has 3\); correct this row, and quote a text that holds",
    '"1","a","b"\n"2","c","d","e"\n': r"line 2: cannot be read as CSV \(4 columns where",
    '"1","a","b"\n"2","c","d\n': r"line 2: cannot be read as CSV \(unexpected end",
    '"1","a","b"\n"2","caf\udce9","b"\n': r"line 2: is not UTF-8 \(byte 0xe9\); save the file as UTF-8",
    '"1","a","b"\n"x","c","d"\n': r"line 2: class_index is 'x'; write 1",
    '"1","a","b"\n"0","c","d"\n': r"line 2: class_index is '0'; write 1",
    '"1","a","b"\n"5","c","d"\n': r"line 2: unknown label 4 \(known: 0 World",
    "text,label\na,Sprots\n": r"line 2: unknown label 'Sprots' .*add it to classes\.txt",
    "text,label\na,\n": r"line 2: unknown label ''",
    '"1","a","b"\n"2","",""\n': r"line 2: no text, or title and description, in class_index, title, description; fill",
    "text,label\n&lt;b&gt; \\\\,World\n": r"line 2: no text",
    "body,label\na,World\n": r"line 2: no text, or title and description, in body, label",
    "text,topic\na,World\n": r"line 2: no label or class_index in text, topic; name one",
    "text,label,Text\na,World,b\n": r"line 1: cannot be read as CSV \('text' stands there twice\)",
    "text,label\n": r"train\.csv: holds no rows",
    "": r"train\.csv: holds no rows",
}  # fmt: skip
BAD_JSONL = {
    '{"text": "a", "label": 1}\n{"text": "b"': r"line 2: no JSON object \(Expecting",
    '["a", 1]\n': r"line 1: no JSON object \(a list\)",
    '{"text": "a", "label": 1, "label": 2}\n': r"line 1: no JSON object \('label' stands there twice\)",
    '{"text": "a"}\n': r"line 1: no label or class_index in text",
    '{"text": null, "label": 1}\n': r"line 1: no text",
    '{"text": "a", "label": 1.5}\n': r"line 1: unknown label 1\.5",
    '{"text": "a", "label": true}\n': r"line 1: unknown label True",
    '{"text": "a", "label": -1}\n': r"line 1: unknown label -1",
    '{"text": "a", "label": {"b": 1}}\n': r"line 1: unknown label \{'b': 1\}",
    '{"text": "a", "label": "\uff11"}\n': r"line 1: unknown label '\uff11'",
    f'{{"text": "a", "label": "{"1" * 5000}"}}\n': r"line 1: unknown label '1+ \(known: 0 World",
    '{"title": 5, "description": "a", "label": 1}\n': r"line 1: no text, or title and description",
    "[" * 100_000: r"line 1: no JSON object \(maximum recursion",
    '{"text": "caf\udce9", "label": 1}': r"line 1: is not UTF-8 \(byte 0xe9\)",
}


def test_bad_rows_name_file_and_line(tmp_path):
    for kind, cases in (("csv", BAD_CSV), ("jsonl", BAD_JSONL)):
        folder = write_folder(tmp_path / kind, write_csv if kind == "csv" else write_jsonl)
        for content, message in cases.items():
            (folder / f"train.{kind}").write_text(content, errors="surrogateescape")
            fails(folder, message if message.startswith("train") else rf"train\.{kind}, {message}")


def test_a_file_of_another_kind_is_named(tmp_path):
    folder = write_folder(tmp_path)
    whole = (folder / "train.csv").read_bytes()
    for content, kind in (
        (whole.decode().encode("utf-16"), "UTF-16"),
        (whole.decode().encode("utf-16-le"), "UTF-16"),
        (gzip.compress(whole), "gzip"),
        (b"PK\x03\x04", "a zip or Excel file"),
        (b"PAR1", "Parquet"),
    ):
        (folder / "train.csv").write_bytes(content)
        fails(folder, rf"train\.csv: is {kind}, not UTF-8 text; save or unpack it")
    (folder / "train.csv").write_bytes(whole.replace(b"\n", b"\r"))  # of an old Mac: read
    assert len(source(folder).rest) == 24


def test_bad_parquet(tmp_path):
    folder = write_folder(tmp_path, write_parquet)
    pd.DataFrame({"body": ["a"], "label": [1]}).to_parquet(folder / "train.parquet")
    fails(folder, r"train\.parquet, row 1: no text, or title and description, in body, label")
    twice = pa.table([pa.array(["a"]), pa.array([1]), pa.array([0])], names=["text", "label", "label"])
    pq.write_table(twice, folder / "train.parquet")
    fails(folder, r"train\.parquet: cannot be read as Parquet \('label' stands there twice\)")
    (folder / "train.parquet").write_bytes(b"no parquet")
    fails(folder, r"train\.parquet: cannot be read as Parquet")
    for odd in ("{", "[]", "null", '{"info": 5}', '{"info": {"features": {"label": {"names": ["A", "A"]}}}}'):
        table = pa.table({"text": ["a"], "label": [1]}).replace_schema_metadata({"huggingface": odd})
        pq.write_table(table, folder / "train.parquet")
        fails(folder, r"train\.parquet: its 'huggingface' metadata cannot be read \(.*\); write the file anew")


def test_missing_or_doubled_file(tmp_path):
    folder = write_folder(tmp_path)
    write_jsonl(folder / "train", rows(24))
    fails(folder, r"both train\.csv and train\.jsonl are there; keep one")
    for path in folder.glob("train.*"):
        path.unlink()
    fails(folder, r"no train file; put one of train\.csv, train\.jsonl, train\.parquet there")


STRAY = [
    ("World", ' "world"'), ("World", "WORLD "), ("World", "\u201cWorld\u201d"), ("Sci Fi", "sci-fi"), ("True", "TRUE"),
    ("World", "\uff37orld"), ("caf\u00e9", "cafe\u0301"), ("v1", "v1.0"), ("Stra\u00dfe", "STRASSE"),
    ("World", "World."),
]  # fmt: skip


def test_label_names_that_are_single_or_spelled_twice(tmp_path):
    folder = write_folder(tmp_path, write_jsonl)
    for content, message in (
        ("World\n", r"label names are \['World'\]; two or more"),
        ("\n", r"label names are \[\]; two or more"),
        ("World\nworld\n", r"'World' and 'world' differ in no more than"),
        ("World\nSports\x1b[31m\n", r"label name 'Sports\\x1b\[31m' .* nobody sees; rename it"),
        ("World\nSpo\u200brts\n", r"label name .* nobody sees; rename it"),
        ("World\n" + "long " * 30_000, r"label name 'long .* is longer than 100 characters"),
    ):
        (folder / "classes.txt").write_text(content)
        fails(folder, message)
    (folder / "classes.txt").write_bytes(b"caf\xe9\nWorld\n")
    fails(folder, r"classes\.txt, line 1: is not UTF-8 \(byte 0xe9\)")
    (folder / "classes.txt").unlink()

    def spelled(*names):
        rows = [json.dumps({"text": f"t{i}", "label": name}) for i, name in enumerate(names)]
        (folder / "train.jsonl").write_text("\n".join(rows))

    for pair in STRAY:
        spelled("Other", *pair, pair[0])
        fails(folder, r"label names .* and .* \([12] and [12] rows\) differ in no more than .*; spell them alike")
    spelled(*(f"id {i}" for i in range(600)))
    fails(folder, r"600 different labels \('id 0', 'id 1', \.\.\.\) are no classes")
    spelled("A", "B", True)
    fails(folder, r"line 3: label is True; write the name of a class")
    spelled("A", "B", "nan")
    (folder / "test.jsonl").write_text('{"text": "c", "label": "A"}')
    fails(folder, r"line 3: unknown label 'nan'")


def test_classes_and_repairs_are_one_line_each(tmp_path, capsys):
    train = [(f"story {i}", "AB"[i % 2]) for i in range(1_001)]
    train += [("a &lt;b&gt;c&lt;/b&gt; \0d", "C"), ("e\u202ef", "A")]
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps({"text": t, "label": y}) for t, y in train))
    (tmp_path / "test.jsonl").write_text('{"text": "g", "label": "A"}')
    found, said = source(tmp_path), capsys.readouterr().out.splitlines()
    assert found.rest["text"].tolist()[-2:] == ["a c d", "ef"]
    assert found.cleaned == {"entity": 4, "tag": 2, "control": 2}
    first = r"'a &lt;b&gt;c&lt;/b&gt; \x00d' became 'a c d'"
    assert said[0].endswith(f"repairs of its texts: 4 entity, 2 control, 2 tag; the first: {first}")
    assert said[1].endswith("3 classes in 1,003 training rows: A 502, B 500, C 1; 1 with no more than one row: C")
    assert len(said) == 2


# --- hub -----------------------------------------------------------------------------------------------------------
def test_hub_rows_take_the_way_of_all_rows_at_a_pinned_commit(tmp_path, monkeypatch):
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for _, commit in HUB.values())
    fails(tmp_path / "nowhere", r"nowhere is not there; put files there or, if nowhere")
    fails("someone/else", r"commit of it, 40 digits: as task_revision, .*\(known: .*\)")
    fails("someone/else", r"give a commit of it, 40 digits", task_revision="main")
    # the client is replaced by one that hands out a data set in memory and notes what it was asked for
    asked, parts = [], datasets.DatasetDict(train=data_set(rows(24)), test=data_set(rows(6, 100)), more=data_set([]))
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **named: asked.append((args, named)) or parts)
    found = source("fancyzhx/ag_news")
    commit = HUB["fancyzhx/ag_news"][1]
    assert asked == [(("fancyzhx/ag_news", None), {"revision": commit})]
    assert found.label_names == NAMES and found.name == f"fancyzhx/ag_news@{commit}"
    assert found.rest["text"].tolist() == [text for text, _ in rows(24)] and found.test["source_id"][0] == "test:1"
    del parts["test"]
    fails("fancyzhx/ag_news", r"no split 'test'; bring such files in a folder")


def test_a_dead_hub_is_one_sentence_with_the_way_out(tmp_path):
    code = (
        "import time; time.sleep = lambda seconds: None\n"  # the client waits between its retries
        "from symbiosis.data.labelled import read\nfrom symbiosis.settings import RunSettings\n"
        "try:\n    read(RunSettings(task='fancyzhx/ag_news'))\n"
        "except ValueError as error:\n    print(error)"
    )
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert re.fullmatch(
        r"task: fancyzhx/ag_news@\w{40} cannot be fetched \(\w+\); .*hf download .* and name FOLDER instead\n",
        run.stdout,
    ), run.stdout + run.stderr


# --- real text -----------------------------------------------------------------------------------------------------
@pytest.mark.skipif(not AG_NEWS.is_dir(), reason="no real AG News beside the repository")
def test_real_ag_news():
    found = source("../shared/data/ag_news")
    assert found.label_names == NAMES and (len(found.rest), len(found.test)) == (
        19_956,
        5_000,
    )  # counted by their maker
    assert Counter(found.test["label"]) == {label: 1_250 for label in range(4)}
    raw = [text for name in ("train.csv", "public_test.csv") for text in read_raw(AG_NEWS / name)]
    # a plain scan of the two files: a dollar sign stands there as such or as an entity
    assert found.cleaned["dollar"] == sum(len(re.findall(r"\\(?:\$| #36;)", text)) for text in raw)
    texts = [*found.rest["text"], *found.test["text"]]
    for quirk in (r"\\", r"#\w+;", r"&(lt|gt|amp);", r"\b(quot|amp|lt|gt|nbsp|hellip|rsquo|mdash);", r"\s\s"):
        assert any(re.search(quirk, text) for text in raw), quirk
        assert not [text for text in texts if re.search(quirk, text)], quirk
    assert not [text for text in texts if re.search(r"</?\w[^<>]*>", text)]


def read_raw(path):
    with path.open(newline="") as file:
        return [f"{row['title']} {row['description']}" for row in csv.DictReader(file)]


def test_the_miniature_has_no_end():
    for name in ("train_size", "pool_size", "test_size"):
        with pytest.raises(DataError, match=f"{name}: 0 takes all, but the miniature world has no end"):
            read(RunSettings(**{name: 0}))
