"""Tasks from every source, splits that share nothing, and one clear sentence for every bad input."""

import csv
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from symbiosis.data.lesson import load_lesson, make_lesson, save_lesson
from symbiosis.data.readers import DATASETS, clean
from symbiosis.data.task import DataError, check_disjoint, load_task, match_key
from symbiosis.settings import RunSettings, make_settings

ROOT = Path(__file__).resolve().parents[2]
AG_NEWS = ROOT / "../shared/data/ag_news"
needs_ag_news = pytest.mark.skipif(not AG_NEWS.is_dir(), reason="no real AG News in ../shared/data/ag_news")
SIZES = {"dev_size": 4, "train_size": 6, "pool_size": 8, "test_size": 0, "lesson_size": 4, "hard_examples": 2}
NAMES = ["World", "Sports", "Business", "Sci/Tech"]


def settings(folder, **given):
    return make_settings(**SIZES | {"task": str(folder)} | given)


def rows(n, start=0):
    return [(f"Story number {i} of the day", i % 4) for i in range(start, start + n)]


def ag_news_lines(found, header=False):
    lines = ['"class_index","title","description"'] * header
    return "\n".join(lines + [f'"{label + 1}","{text}","told, at length"' for text, label in found]) + "\n"


def text_label_lines(found):
    return "text,label\n" + "".join(f"{text},{NAMES[label]}\n" for text, label in found)


def write_folder(folder, write, train=None, test=None, classes=True):
    """A folder with 24 train and 6 test rows unless others are given; `write(path stem, rows)` makes a file."""
    folder.mkdir(exist_ok=True)
    write(folder / "train", rows(24) if train is None else train)
    write(folder / "test", rows(6, start=100) if test is None else test)
    if classes:
        (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def write_csv(stem, found):
    stem.with_suffix(".csv").write_text(ag_news_lines(found))


def write_csv_with_header(stem, found):
    stem.with_suffix(".csv").write_text(ag_news_lines(found, header=True))


def write_text_label_csv(stem, found):
    stem.with_suffix(".csv").write_text(text_label_lines(found))


def write_jsonl(stem, found):
    lines = [json.dumps({"text": text, "label": label}) for text, label in found]
    stem.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")


def write_jsonl_names(stem, found):
    write_jsonl(stem, [(text, NAMES[label]) for text, label in found])


def write_parquet(stem, found):
    pd.DataFrame(found, columns=["text", "label"]).to_parquet(stem.with_suffix(".parquet"))


def write_hub_parquet(stem, found):
    """The layout and schema of a downloaded hub data set: label names stand in the schema, not in classes.txt."""
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=NAMES))
    (stem.parent / "data").mkdir(exist_ok=True)
    for part, some in enumerate((found[: len(found) // 2], found[len(found) // 2 :])):
        columns = {"text": [text for text, _ in some], "label": [label for _, label in some]}
        path = stem.parent / "data" / f"{stem.name}-0000{part}-of-00002.parquet"
        datasets.Dataset.from_dict(columns, features=features).to_parquet(path)


ALL_FORMATS = [
    (write_csv, True),
    (write_csv_with_header, True),
    (write_text_label_csv, True),
    (write_text_label_csv, False),
    (write_jsonl, True),
    (write_jsonl_names, False),
    (write_parquet, True),
    (write_hub_parquet, False),
]


# --- formats -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("write", "classes"), ALL_FORMATS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_every_format_gives_the_same_rows(tmp_path, write, classes):
    task = load_task(settings(write_folder(tmp_path / "news", write, classes=classes)))
    assert set(task.label_names) == set(NAMES)
    seen = dict(zip(task.train["text"], task.train["label"], strict=True))
    seen |= dict(zip(task.dev["text"], task.dev["label"], strict=True))
    for text, label in seen.items():
        number = int(text.split()[2])
        assert number < 24 and task.label_names[label] == NAMES[number % 4]
    assert sorted(int(text.split()[2]) for text in task.test["text"]) == list(range(100, 106))
    assert (len(task.dev), len(task.train), len(task.pool)) == (4, 6, 8)
    assert task.name == "news"


def test_ag_news_text_is_title_and_description(tmp_path):
    task = load_task(settings(write_folder(tmp_path, write_csv)))
    assert all(text.endswith(" of the day told, at length") for text in task.test["text"])


def test_public_test_is_found_and_source_id_names_file_and_line(tmp_path):
    folder = write_folder(tmp_path, write_csv_with_header)
    (folder / "test.csv").rename(folder / "public_test.csv")
    task = load_task(settings(folder))
    lines = (folder / "public_test.csv").read_text().splitlines()
    for text, source_id in zip(task.test["text"], task.test["source_id"], strict=True):
        name, line = source_id.split(":")
        assert name == "public_test.csv" and text[:16] in lines[int(line) - 1]


def test_line_numbers_survive_texts_with_line_breaks(tmp_path):
    folder = write_folder(tmp_path, write_csv)
    broken = '"1","Two\nlines","here"\n"9","a","b"\n'
    (folder / "train.csv").write_text(broken)
    with pytest.raises(DataError, match=r"train\.csv, line 3: unknown label 8"):
        load_task(settings(folder))


def test_excel_byte_order_mark_is_no_column_name(tmp_path):
    folder = write_folder(tmp_path, write_text_label_csv)
    for name in ("train.csv", "test.csv"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert len(load_task(settings(folder)).test) == 6


# --- splits --------------------------------------------------------------------------------------------------------
def test_pool_has_no_label_column(tmp_path):
    task = load_task(settings(write_folder(tmp_path, write_csv)))
    assert task.pool.column_names == ["text", "source_id"]
    for part in (task.train, task.dev, task.test):
        assert part.column_names == ["text", "label", "source_id"]


@pytest.mark.parametrize("seed", range(20))
def test_planted_overlap_and_repeats_never_survive(tmp_path, seed):
    """Random folders with planted test texts and repeats: counts are exact and all splits are disjoint."""
    draw = random.Random(seed)
    planted = draw.sample(rows(10, start=100), draw.randint(1, 5))
    repeated = draw.sample(rows(30), draw.randint(1, 5))
    train = rows(30) + [(disguise(text), label) for text, label in planted + repeated]
    folder = write_folder(tmp_path, write_jsonl, train=draw.sample(train, len(train)), test=rows(10, start=100))
    task = load_task(settings(folder, seed=seed, test_size=draw.randint(1, 10), pool_size=0))
    assert task.overlap == {"equals_test": len(planted), "repeated": len(repeated)}
    assert len(task.dev) + len(task.train) + len(task.pool) == 30
    check_disjoint({"dev": task.dev, "train": task.train, "pool": task.pool, "test": task.test})


def disguise(text):
    """The same story for the match key, another string for ==."""
    return f"  &quot;{text.upper()}&quot; -- !"


def test_match_key_by_hand():
    assert match_key("Fish &amp; Chips, 5 o'clock!") == "fishchips5oclock"
    assert match_key("Fish &amp; Chips") != match_key("Fish & Chip")
    assert match_key("新聞") == "新聞"  # a text without a-z is its own key


def test_check_disjoint_names_the_two_splits_and_the_text():
    parts = {"dev": {"text": ["A story."]}, "pool": {"text": ["other"]}, "test": {"text": ["a  STORY"]}}
    with pytest.raises(DataError, match=r"dev and test share a text \(match key 'astory'\); remove it"):
        check_disjoint(parts)
    check_disjoint({"dev": parts["dev"], "pool": parts["pool"]})


def test_splits_follow_the_seed_and_the_fingerprint_follows_the_rows(tmp_path):
    folder = write_folder(tmp_path, write_csv)
    first, again, other = (load_task(settings(folder, seed=seed)) for seed in (1, 1, 2))
    assert first.pool["text"] == again.pool["text"] and first.fingerprint == again.fingerprint
    assert first.pool["text"] != other.pool["text"] and first.fingerprint != other.fingerprint


def test_zero_takes_all_that_is_left(tmp_path):
    folder = write_folder(tmp_path, write_csv)
    assert len(load_task(settings(folder, pool_size=0)).pool) == 24 - 4 - 6
    assert len(load_task(settings(folder, train_size=0)).train) == 24 - 4 - 8
    assert len(load_task(settings(folder, test_size=3)).test) == 3


# --- bad input -----------------------------------------------------------------------------------------------------
def fails(folder, message, **given):
    with pytest.raises(DataError, match=message) as caught:
        load_task(settings(folder, **given))
    assert "\n" not in str(caught.value)


BAD_CSV = {
    "row too short": ('"1","a","b"\n"2","c"\n', r"train\.csv, line 2: 2 columns where .* has 3; complete the row"),
    "row too long": ('"1","a","b"\n"2","c","d","e"\n', r"train\.csv, line 2: 4 columns where"),
    "open quote": ('"1","a","b"\n"2","c","d\n', r"train\.csv, line 2: cannot be read as UTF-8 CSV"),
    "class not a number": ('"1","a","b"\n"x","c","d"\n', r"train\.csv, line 2: class_index is 'x'; write 1"),
    "class zero": ('"1","a","b"\n"0","c","d"\n', r"train\.csv, line 2: class_index is '0'; write 1"),
    "class too high": (
        '"1","a","b"\n"5","c","d"\n',
        r"train\.csv, line 2: unknown label 4 \(known: 0 World",
    ),
    "unknown name": ("text,label\na,Sprots\n", r"train\.csv, line 2: unknown label 'Sprots' .*add it to classes\.txt"),
    "empty text": ('"1","a","b"\n"2","",""\n', r"train\.csv, line 2: text is empty; fill or delete"),
    "only leftovers": ("text,label\n&lt;b&gt; \\\\,World\n", r"train\.csv, line 2: text is empty"),
    "empty label": ("text,label\na,\n", r"train\.csv, line 2: unknown label ''"),
    "columns": ("body,topic\na,World\n", r"train\.csv, line 1: unknown columns \['body', 'topic'\]; write a header"),
    "no rows": ("text,label\n", r"train\.csv: holds no rows"),
    "empty file": ("", r"train\.csv, line 1: unknown columns \[\]"),
}


@pytest.mark.parametrize(("content", "message"), BAD_CSV.values(), ids=BAD_CSV.keys())
def test_bad_csv(tmp_path, content, message):
    folder = write_folder(tmp_path, write_csv)
    (folder / "train.csv").write_text(content)
    fails(folder, message)


def test_bad_byte_names_its_line(tmp_path):
    folder = write_folder(tmp_path, write_csv)
    (folder / "train.csv").write_bytes(b'"1","a","b"\n"2","caf\xe9","b"\n')
    fails(folder, r"train\.csv, line 2: cannot be read as UTF-8 CSV")


BAD_JSONL = {
    "no JSON": ('{"text": "a", "label": 1}\n{"text": "b"', r"train\.jsonl, line 2: no JSON object"),
    "no object": ('["a", 1]\n', r"train\.jsonl, line 1: no JSON object"),
    "no label": ('{"text": "a"}\n', r"train\.jsonl, line 1: no 'label'; write"),
    "text missing": ('{"text": null, "label": 1}\n', r"train\.jsonl, line 1: text is empty"),
    "label a fraction": ('{"text": "a", "label": 1.5}\n', r"train\.jsonl, line 1: unknown label 1\.5"),
    "label a boolean": ('{"text": "a", "label": true}\n', r"train\.jsonl, line 1: unknown label True"),
    "label negative": ('{"text": "a", "label": -1}\n', r"train\.jsonl, line 1: unknown label -1"),
}


@pytest.mark.parametrize(("content", "message"), BAD_JSONL.values(), ids=BAD_JSONL.keys())
def test_bad_jsonl(tmp_path, content, message):
    folder = write_folder(tmp_path, write_jsonl)
    (folder / "train.jsonl").write_text(content)
    fails(folder, message)


def test_bad_parquet(tmp_path):
    folder = write_folder(tmp_path, write_parquet)
    pd.DataFrame({"body": ["a"], "label": [1]}).to_parquet(folder / "train.parquet")
    fails(folder, r"train\.parquet: unknown columns \['body', 'label'\]; name two of them")
    (folder / "train.parquet").write_bytes(b"no parquet")
    fails(folder, r"train\.parquet: cannot be read as Parquet")


def test_missing_or_doubled_file(tmp_path):
    folder = write_folder(tmp_path, write_csv)
    write_jsonl(folder / "train", rows(24))
    fails(folder, r"both train\.csv and train\.jsonl are there; keep one")
    for path in folder.glob("train.*"):
        path.unlink()
    fails(folder, r"no train file; put train\.csv, train\.jsonl, train\.parquet there")


def test_numeric_labels_need_names(tmp_path):
    folder = write_folder(tmp_path, write_jsonl, classes=False)
    fails(folder, r"classes\.txt: missing; the labels are numbers, so write their names there")


def test_a_single_label_is_no_task(tmp_path):
    folder = write_folder(tmp_path, write_jsonl)
    (folder / "classes.txt").write_text("World\n")
    fails(folder, r"label names are \['World'\]; two or more")


def test_sizes_that_do_not_fit(tmp_path):
    folder = write_folder(tmp_path, write_csv)
    fails(
        folder,
        r"24 distinct rows outside the test, but dev_size 4 \+ train_size 6 \+ pool_size 15 asks for 25",
        pool_size=15,
    )
    fails(folder, r"asks for 24 and leaves no pool rows, whose 0 takes the rest", train_size=20, pool_size=0)
    fails(folder, r"train_size, pool_size: both are 0", train_size=0, pool_size=0)
    fails(folder, r"test_size asks for 7 of 6 test rows; lower it", test_size=7)


# --- hub -----------------------------------------------------------------------------------------------------------
def test_a_task_that_is_neither_folder_nor_pinned(tmp_path):
    fails(tmp_path / "nowhere", r"is no folder \(looked at .*nowhere\); put train and test files there")
    fails("someone/else", r"give its commit as task_revision \(known without one: fancyzhx/ag_news\)")
    fails("someone/else", r"task_revision: 'main' can move; give the 40 digits", task_revision="main")


def test_pinned_revisions_are_commits():
    assert DATASETS and all(re.fullmatch(r"[0-9a-f]{40}", revision) for revision in DATASETS.values())


def test_hub_rows_take_the_way_of_all_rows(monkeypatch):
    """The client is replaced by one that hands out a data set in memory and notes what it was asked for."""
    asked = {}
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=NAMES))
    found = {"train": rows(24), "test": rows(6, start=100), "unsupervised": rows(3, start=200)}
    parts = {
        name: datasets.Dataset.from_dict(
            {"text": [t for t, _ in some], "label": [y for _, y in some]}, features=features
        )
        for name, some in found.items()
    }

    def load_dataset(name, revision):
        asked.update(name=name, revision=revision)
        return datasets.DatasetDict(parts)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = load_task(settings("fancyzhx/ag_news"))
    assert asked == {"name": "fancyzhx/ag_news", "revision": DATASETS["fancyzhx/ag_news"]}
    assert task.label_names == tuple(NAMES) and task.source.endswith("@" + asked["revision"])
    assert len(task.test) == 6 and len(task.pool) == 8
    del parts["test"]
    fails("fancyzhx/ag_news", r"no split 'test' with columns text, label; bring such files in a folder")


def test_a_dead_hub_is_one_sentence_with_the_way_out(tmp_path):
    code = (
        "import time; time.sleep = lambda seconds: None\n"  # the client waits between its retries
        "from symbiosis.data.task import load_task\nfrom symbiosis.settings import RunSettings\n"
        "try:\n    load_task(RunSettings(task='fancyzhx/ag_news'))\n"
        "except ValueError as error:\n    print(error)"
    )
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = run.stdout.strip().splitlines()
    assert len(lines) == 1, run.stdout + run.stderr
    assert re.fullmatch(
        r"task: fancyzhx/ag_news@\w{40} cannot be fetched \(\w+\); .*hf download.*set task: FOLDER", lines[0]
    )


# --- the miniature -------------------------------------------------------------------------------------------------
def test_miniature_task_has_the_sizes_asked_for():
    given = {"dev_size": 40, "train_size": 300, "pool_size": 500, "test_size": 200}
    task = load_task(settings("miniature", seed=3, **given))
    assert (len(task.dev), len(task.train), len(task.pool), len(task.test)) == tuple(given.values())
    assert max(Counter(task.test["label"]).values()) < 100 and len(task.label_names) == 4
    assert task.fingerprint == load_task(settings("miniature", seed=3, **given)).fingerprint
    assert task.fingerprint != load_task(settings("miniature", seed=4, **given)).fingerprint


def test_a_skewed_pool_shows_less_of_what_the_test_shows():
    given = {"dev_size": 40, "train_size": 100, "pool_size": 400, "test_size": 100}
    tasks = {
        skew: load_task(RunSettings(pool_skew=skew, **given)) for skew in ("none", "rare_tail", "no_tail", "no_class")
    }
    world = tasks["none"].world
    tails = {skew: world.in_tail(task.pool["text"]).mean() for skew, task in tasks.items()}
    assert 0.35 < tails["none"] < 0.5 and 0.03 < tails["rare_tail"] < 0.12 and tails["no_tail"] == 0
    seen = np.bincount(world.posterior(tasks["no_class"].pool["text"]).argmax(1), minlength=4) / 400
    assert sorted(seen)[0] < 0.02 and sorted(seen)[1] > 0.25  # a text or two of another class read like it
    assert all(len(task.pool) == 400 and len(task.test) == 100 for task in tasks.values())
    assert {tuple(task.test["text"]) for task in tasks.values()} == {tuple(tasks["none"].test["text"])}


def test_a_class_can_be_gone_from_the_pool_of_any_task(tmp_path):
    folder = write_folder(tmp_path, write_csv)
    whole, without = (load_task(settings(folder, pool_size=4, pool_skew=skew)) for skew in ("none", "no_class"))
    assert len(whole.pool) == len(without.pool) == 4 and whole.dev["text"][:] == without.dev["text"][:]
    fails(
        folder, r"pool_skew 'no_class' leaves \d+ rows where pool_size asks for 14", pool_size=14, pool_skew="no_class"
    )


@pytest.mark.parametrize("name", ["train_size", "pool_size", "test_size"])
def test_miniature_has_no_end(name):
    fails("miniature", f"{name}: 0 takes all, but the miniature world has no end", **{name: 0})


# --- cleaning ------------------------------------------------------------------------------------------------------
CLEANED_BY_HAND = {
    "Canada #39;s largest": "Canada's largest",
    "is  #39;Kiss of Death #39; for": "is 'Kiss of Death' for",
    "a  quot;smart bomb quot; from": 'a "smart bomb" from',
    "AT amp;T and Merck  amp; Co.": "AT&T and Merck & Co.",
    "soared  #36;14.97 to \\$187.40": "soared $14.97 to $187.40",
    "seven\\lawsuits against\\\\": "seven lawsuits against",
    "software  #151; free": "software \u2014 free",
    "&lt;b&gt;...&lt;/b&gt; A Filipino": "... A Filipino",
    'Corp. &lt;A HREF="http://a.b/c?d=e"&gt;F.N&lt;/A&gt;, a': "Corp. F.N, a",
    "one&lt;br&gt;two": "one two",
    "preparing nbsp;to  make": "preparing to make",
    "the cup; it is 3 < 4 & 5 > 2": "the cup; it is 3 < 4 & 5 > 2",
}


@pytest.mark.parametrize(("dirty", "wanted"), CLEANED_BY_HAND.items())
def test_clean_by_hand(dirty, wanted):
    assert clean(dirty) == wanted


def test_clean_counts_each_repair_once():
    counts = Counter()
    clean("a #39;s \\$5 &lt;b&gt;x&lt;/b&gt;\\y", counts)
    assert counts == {"entity": 5, "dollar": 1, "tag": 2, "backslash": 1}


def test_clean_is_idempotent_and_leaves_no_quirk():
    draw = random.Random(0)
    pieces = [
        *"ab <>/&;#\\$",
        " #39;",
        " quot;",
        "&lt;",
        "&gt;",
        "&amp;",
        "lt;",
        "<p>",
        "amp;",
        "#92;",
        "  ",
        "\xa0",
        "\n",
    ]
    for _ in range(3000):
        text = clean("".join(draw.choices(pieces, k=draw.randint(1, 14))))
        assert clean(text) == text
        assert not re.search(r"\\| #39;|&lt;|&gt;|^\s|\s$|\s\s", text), text


def test_task_counts_its_repairs(tmp_path):
    train = [*rows(24), ("Britain #39;s \\$5 note", 2)]
    task = load_task(settings(write_folder(tmp_path, write_jsonl, train=train), pool_size=0))
    assert task.cleaned == {"dollar": 1, "entity": 1}
    everything = [*task.train["text"], *task.dev["text"], *task.pool["text"]]
    assert "Britain's $5 note" in everything


# --- lessons -------------------------------------------------------------------------------------------------------
def a_lesson(n=3):
    return make_lesson([f"text {i}" for i in range(n)], range(n), "generator", 2, "write", [""] * n)


def test_lesson_columns_and_default_weight():
    lesson = a_lesson()
    assert lesson.column_names == [
        "text", "label", "origin", "generation", "prompt_kind", "source_id", "weight", "label_probs",
    ]  # fmt: skip
    assert lesson[1] == {
        "text": "text 1", "label": 1, "origin": "generator", "generation": 2, "prompt_kind": "write", "source_id": "",
        "weight": 1.0, "label_probs": None,
    }  # fmt: skip
    with pytest.raises(DataError, match="differ in length"):
        make_lesson(["a"], [0, 1], "real", 0, "real", ["x"])


def test_lesson_round_trip_is_exact_and_byte_stable(tmp_path):
    lesson = (
        datasets.concatenate_datasets([a_lesson(), a_lesson(2)])
        .select([4, 0, 2])
        .add_column("hardness", [1.5, 0.1, 2.0])
    )
    for name in ("one", "two"):
        save_lesson(lesson, tmp_path / "lessons" / f"{name}.parquet")
    loaded = load_lesson(tmp_path / "lessons" / "one.parquet")
    assert loaded.to_dict() == lesson.to_dict() and loaded.features == lesson.features
    assert (tmp_path / "lessons" / "one.parquet").read_bytes() == (tmp_path / "lessons" / "two.parquet").read_bytes()
    assert len(pd.read_parquet(tmp_path / "lessons" / "one.parquet")) == 3  # any tool opens it


def test_a_full_disk_leaves_the_old_lesson_and_no_half(tmp_path, monkeypatch):
    path = tmp_path / "gen-1.parquet"
    save_lesson(a_lesson(), path)
    before = path.read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_lesson(a_lesson(5), path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["gen-1.parquet"]


def test_a_lesson_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"gone\.parquet: no readable lesson"):
        load_lesson(tmp_path / "gone.parquet")


# --- real text -----------------------------------------------------------------------------------------------------
@needs_ag_news
def test_real_ag_news():
    task = load_task(settings("../shared/data/ag_news", dev_size=128, train_size=900, pool_size=0))
    assert task.label_names == tuple(NAMES)
    read = len(task.dev) + len(task.train) + len(task.pool) + sum(task.overlap.values())
    assert read == 19_956 and len(task.test) == 5_000  # rows of the files, counted by their maker
    assert Counter(task.test["label"]) == {label: 1_250 for label in range(4)}
    check_disjoint({"dev": task.dev, "train": task.train, "pool": task.pool, "test": task.test})
    raw = [text for name in ("train.csv", "public_test.csv") for text in read_raw(AG_NEWS / name)]
    # a plain scan of the two files: a dollar sign stands there as such or as an entity
    assert task.cleaned["dollar"] == sum(len(re.findall(r"\\(?:\$| #36;)", text)) for text in raw)
    texts = [*task.dev["text"], *task.train["text"], *task.pool["text"], *task.test["text"]]
    for quirk in (
        r"\\",
        r"#\w+;",
        r"&(lt|gt|amp);",
        r"\b(quot|amp|lt|gt|nbsp|hellip|rsquo|mdash);",
        r"</?\w[^<>]*>",
        r"\s\s",
    ):
        assert any(re.search(quirk, text) for text in raw) or quirk.startswith("<"), quirk
        assert not [text for text in texts if re.search(quirk, text)], quirk


def read_raw(path):
    with path.open(newline="") as file:
        return [f"{row['title']} {row['description']}" for row in csv.DictReader(file)]
