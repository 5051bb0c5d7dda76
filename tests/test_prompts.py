"""Prompts are data: the published words, one's own, and what is refused."""

import re

import pytest

from symbiosis import prompts
from symbiosis.prompts import read_prompts
from symbiosis.settings import RunSettings, SettingsError, make_settings

MODELS = {"student": "a/b", "generator": "c/d"}


def test_the_published_words_fill_their_places():
    for name in ("news", "texts", "reviews", "tickets", "abstracts"):
        words = read_prompts(name)
        assert words.student_classify.format(text="A text.").startswith("A text.\n")
        asked = words.label_turn("A text.", ["Red", "Green", "Blue"])
        assert "A text." in asked and "Red, Green or Blue" in asked
        about = words.write_about_turn("Red", "roses", words.styles[0], words.lengths[0])
        assert all(part in about for part in ("Red", "roses", words.styles[0], words.lengths[0])) and "{" not in about
    assert read_prompts().write.format(label="Sports") == "Write a short Sports news article."


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


@pytest.mark.parametrize(
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
