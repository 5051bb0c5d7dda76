"""Prompts are data: the published words, one's own, and what is refused."""

import re

import pytest
from row_by_row import row_by_row

from symbiosis import prompts
from symbiosis.prompts import Beginning, read_prompts
from symbiosis.settings import RunSettings, SettingsError, make_settings

MODELS = {"student": "a/b", "generator": "c/d"}


def test_the_published_words_fill_their_places():
    for name in ("news", "news_completion", "texts", "reviews", "tickets", "abstracts"):
        words = read_prompts(name)
        assert words.student_classify.format(text="A text.").startswith("A text.\n")
        asked = words.label_turn("A text.", ["Red", "Green", "Blue"])
        assert "A text." in asked and "Red, Green or Blue" in asked
        about = words.write_about_turn("Red", "roses", words.styles[0], words.lengths[0])
        assert all(part in about for part in ("Red", "roses", words.styles[0], words.lengths[0])) and "{" not in about
    assert read_prompts().write.format(label="Sports") == "Write a short Sports news article."


NEWS = ["World", "Sports", "Business", "Sci/Tech"]


def test_a_text_goes_on_from_the_exemplars_which_begin_in_turn_with_another_one():
    words = read_prompts("news_completion")
    turns = words.write_turns([NEWS[c] for c in (0, 3, 0, 0, 0, 0)])
    assert all(isinstance(turn, Beginning) for turn in turns)
    lines = [turn.split("\n\n") for turn in turns]
    assert [line[-1] for line in lines[:2]] == ["International politics news:", "Science and technology news:"]
    assert [line[0].partition(" news: ")[0] for line in lines[1:5]] == [  # the second text of World begins with Sports
        "International politics", "Sports", "Business", "Science and technology",
    ]  # fmt: skip
    assert turns[5] == turns[0] and {frozenset(line[:-1]) for line in lines} == {frozenset(lines[0][:-1])}
    asked = read_prompts("news").write_turns(NEWS)
    assert asked[1] == "Write a short Sports news article." and not isinstance(asked[1], Beginning)


def test_label_words_are_listed_class_by_class_and_a_class_without_words_has_its_name():
    words, classes = read_prompts("news_completion").words_of(NEWS)
    assert words[:4] == ["World", "Politics", "International", "Sports"] and classes[:4] == [0, 0, 0, 1]
    assert read_prompts("news").words_of(["a", "b"]) == (["a", "b"], [0, 1])


def test_other_words_are_another_run_and_the_published_ones_keep_their_ids(tmp_path, monkeypatch):
    (tmp_path / "params/own/prompts").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    text = prompts.prompts_file("tickets").read_text()
    path = tmp_path / "params/own/prompts/mine.yaml"
    ids = []
    for words in (text, text.replace("support request", "ticket")):
        path.write_text(words)
        ids.append(RunSettings(prompts="mine", **MODELS).run_id)
    ids += [RunSettings(**MODELS).run_id, RunSettings(prompts="news", **MODELS).run_id]
    assert len(set(ids)) == 3 and ids[2] == ids[3]


@row_by_row(
    ("change", "said"),
    [
        (("{text}\\nCategory:", "Category:"), "student_classify: holds no place; write {text}"),
        (("Write a short support request about {label}.", "Write."), "write: holds no place; write {label}"),
        (("{labels}?", "{labels} {colour}?"), "label: holds ['colour', 'labels', 'text']"),
        (("lengths:", "lenghts:"), "lengths: Field required"),
        (
            ("lengths: [one long sentence, two sentences, three short sentences]", "lengths: []"),
            "styles, lengths: give",
        ),
        (("{text}\\nCategory:", "Read: {text}\\nCategory:"), "student_classify: begin with {text}, once"),
        (("name:", "write: again\nname:"), "'write' comes a second time"),
        (
            ("name:", "label_words: {A: [Red], B: [Blue, ' Red']}\nname:"),
            "' Red' stands for 'A' and 'B'; leave one out",
        ),
        (("name:", "label_words: {A: []}\nname:"), "label_words: 'A' has no word"),
        (("name:", "label_words: {A: Red}\nname:"), "label_words.A: Input should be a list in [brackets]"),
        (("name:", "write_format: completion\nname:"), "stops: write_format completion ends a text by them"),
        (("name:", "write_format: completion\nstops: ['']\nname:"), "stops: write_format completion ends a text"),
        (("name:", "stops: [x]\nexemplars: [{label: A, text: a fox}]\nname:"), "of 'A' holds the stop 'x'"),
        (("name:", "exemplars: [{label: A, text: ' '}]\nname:"), "the text of 'A' is empty"),
        (("name:", "exemplars: [{text: a fox}]\nname:"), "exemplars.0.label: Field required"),
        (("name:", "write_completion: news\nname:"), "write_completion: holds no place; write {heading}"),
        (("name:", "label_format: prose\nname:"), "label_format: Input should be 'chat' or 'completion'"),
    ],
)
def test_words_that_cannot_ask_are_refused_with_file_and_key(tmp_path, monkeypatch, change, said):
    (tmp_path / "params/own/prompts").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    text = prompts.prompts_file("tickets").read_text()
    assert change[0] in text
    (tmp_path / "params/own/prompts/mine.yaml").write_text(text.replace(*change, 1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=re.escape(said)) as told:
        read_prompts("mine")
    assert "mine.yaml" in str(told.value) and len(str(told.value)) < 400


@row_by_row("key", ["label_words", "headings", "exemplars"])
def test_a_class_the_task_does_not_have_is_refused(key):
    value = {
        "label_words": {"Sport": ("x",)},
        "headings": {"Sport": "x"},
        "exemplars": ({"label": "Sport", "text": "x"},),
    }
    words = prompts.Prompts(**read_prompts().model_dump() | {key: value[key]})
    with pytest.raises(SettingsError, match=rf"{key} names 'Sport' \(did you mean 'Sports'\?\), and the task") as told:
        words.words_of(NEWS)
    assert len(str(told.value)) < 300
    words.words_of([*NEWS, "Sport"])


def test_names_nobody_knows_and_models_that_know_no_other_words_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"no params/prompts/ticket\.yaml \(did you mean 'tickets'\?\)"):
        read_prompts("ticket")
    with pytest.raises(SettingsError, match="prompts: the 'miniature' generator was taught the words of 'news' only"):
        make_settings(prompts="tickets", student="a/b")
    (tmp_path / "params/own/prompts").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params/own/prompts/news.yaml").write_text("write: mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="give yours another name"):
        read_prompts("news")
