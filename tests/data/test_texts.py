"""Tasks as plain texts: the miniature's classes, questions with answers, files, the hub, and what cannot be used."""

import json
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from symbiosis.data.readers import DataError
from symbiosis.data.texts import load_tasks, read_texts, split
from symbiosis.data.world import GLOBAL_WORDS, LABEL_NAMES, World
from symbiosis.settings import InteractionSettings

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"rows": 24, "written": 12, "train_size": 30, "test_size": 12, "prompts": 4}


def test_private_texts_are_of_one_class_and_public_ones_of_none():
    settings = InteractionSettings(entities=2, private_tasks="science,sports", train_size=300)
    science, sports, public = load_tasks(settings)
    world = World.make(settings.seed)
    for task, name in ((science, "science"), (sports, "sports")):
        assert (world.posterior(task.train).argmax(1) == LABEL_NAMES.index(name)).mean() > 0.95
        assert not set(task.train) & set(task.test) and (len(task.train), len(task.test)) == (300, 200)
    words = [word for text in public.train for word in text.replace(".", "").split()]
    shared = set(GLOBAL_WORDS.replace("/", "").split())
    slot = [word for word in words if any(word in held for held in world.slot_words.values())]
    assert np.mean([word in shared for word in slot]) > 0.97
    assert np.isfinite(world.log_likelihood(public.train)).all()  # the world's own templates


def test_questions_and_answers_become_lines(tmp_path):
    rows = [
        {"question": "What is  wet?", "choices": ["fire", "water"], "answer_index": 1},
        {"question": "2+2?", "answer": "2+2=<<2+2=4>>4\n#### 4"},
        {"question": "Hot?", "choices": {"text": ["sun", "moon"], "label": ["A", "B"]}, "answerKey": "A"},
        {"question": "Cold?", "correct_answer": "ice"},
        {"text": "Plain."},
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    expected = [
        "Question: What is wet? Answer: water", "Question: 2+2? Answer: 2+2=4 #### 4", "Question: Hot? Answer: sun",
        "Question: Cold? Answer: ice", "Plain.",
    ]  # fmt: skip
    assert read_texts(str(path)) == expected
    pd.DataFrame(rows[4:]).to_parquet(tmp_path / "more.parquet")
    assert read_texts(str(tmp_path)) == [*expected, "Plain."]


def test_a_row_that_does_not_fit_names_its_line(tmp_path):
    for content, said in (
        ("{", r"bad.jsonl, line 1: no JSON object \(Expecting"),
        ('{"text": "fine"}\n{"answer": "x"}', r"line 2: does not fit \(KeyError: 'text'\); a row has question with"),
        ('{"question": "q", "choices": ["a"], "answer_index": 3}', r"line 1: does not fit \(IndexError"),
        ('{"text": " "}', r"line 1: text is empty; fill or delete the row"),
    ):
        (tmp_path / "bad.jsonl").write_text(content)
        with pytest.raises(DataError, match=said):
            read_texts(str(tmp_path))


def test_what_is_dropped_or_changed_is_said(tmp_path, capsys):
    texts = [f"\u043d\u043e\u0432\u043e\u0441\u0442\u044c {word}" for word in "\u0430\u0431\u0432\u0433\u0434\u0435"]
    rows = [{"text": text} for text in (*texts, texts[0].upper() + "!", "nul \0 esc \x1b")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "b.txt").write_text("a line that is long enough \u202e\n")
    name = str(tmp_path)
    found = split(name, read_texts(name), InteractionSettings(train_size=0, test_size=2, prompts=2))
    assert len(found.train) == 6 and not {"\0", "\x1b", "\u202e"} & set("".join(found.train + found.test))
    assert capsys.readouterr().out.splitlines() == [
        f"{name}/b.txt: 1 control characters left out",
        f"{name}/a.jsonl, line 8: 2 control characters left out",
        f"{name}: 1 of 9 texts dropped, they come up twice",
    ]


def test_texts_that_are_missing_or_too_few_are_one_sentence(tmp_path):
    def asked(name, **changes):
        given = {"private_tasks": f"{name},b", "public_task": str(tmp_path)} | SIZES | changes
        return load_tasks(InteractionSettings(**given))

    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "few.jsonl").write_text("\n".join(json.dumps({"text": f"text {i % 20}"}) for i in range(40)))
    (tmp_path / "image.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"none.jsonl: holds no text; add some"):
        asked(tmp_path / "none.jsonl")
    with pytest.raises(
        DataError, match=r"few.jsonl: 20 different texts, but test_size \+ train_size ask for 42; lower"
    ):
        asked(tmp_path / "few.jsonl")
    with pytest.raises(DataError, match=r"folder: no .csv, .jsonl, .parquet, .txt file to read"):
        asked(tmp_path / "folder")
    with pytest.raises(DataError, match=r"image.png: no .csv, .jsonl, .parquet, .txt file to read"):
        asked(tmp_path / "image.png")
    with pytest.raises(DataError, match=r"nobody/nothing is not there; .*owner/name@<40 digits>"):
        asked("nobody/nothing")
    with pytest.raises(DataError, match=r"'wrold' is no class of the miniature \(world, sports"):
        asked("wrold", private_tasks="wrold,sports", public_task="miniature")


def test_a_hub_task_is_asked_for_at_its_pinned_commit(monkeypatch):
    def fetched(name, config, *, revision):
        question = f"{name} {config} {revision[:4]}"
        return {"train": datasets.Dataset.from_list([{"question": question, "answer": "yes"}])}

    monkeypatch.setattr(datasets, "load_dataset", fetched)
    assert read_texts("openai/gsm8k") == ["Question: openai/gsm8k main e53f Answer: yes"]
    assert read_texts("me/mine@" + "a" * 40) == ["Question: me/mine None aaaa Answer: yes"]
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: (_ for _ in ()).throw(OSError("away")))
    with pytest.raises(
        DataError, match=r"allenai/sciq@2c94\w+ cannot be fetched \(OSError\).*hf download allenai/sciq"
    ):
        read_texts("allenai/sciq")


def test_real_files_are_read():
    data = ROOT.parent / "shared" / "data"
    if not (data / "sciq").is_dir():
        pytest.skip("needs shared/data with SciQ, GSM8K, ARC and books beside the repository")
    first = {name: read_texts(str(data / path))[0] for name, path in task_files().items()}
    assert first["sciq"].endswith("yogurt? Answer: mesophilic organisms")
    assert first["gsm8k"].endswith("altogether in April and May. #### 72") and "<<" not in first["gsm8k"]
    assert first["arc"].endswith("fever? Answer: a bacterial population in the bloodstream")
    assert len(first["books"]) > 20


def task_files():
    return {
        "sciq": "sciq/sciq_nosupport.jsonl", "gsm8k": "gsm8k/train.jsonl", "arc": "arc/arc_easy_train.jsonl",
        "books": "gutenberg/nltk_austen-emma.txt",
    }  # fmt: skip
