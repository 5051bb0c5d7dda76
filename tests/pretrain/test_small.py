"""The small models: what they read, that they survive a save, and what bad corpora say."""

from pathlib import Path

import numpy as np
import pytest

from symbiosis.models import loading
from symbiosis.models.chat import chat
from symbiosis.pretrain import small
from symbiosis.pretrain.initial import cache_key, initial_model
from symbiosis.prompts import read_prompts
from symbiosis.settings import make_settings

WORDS = {"World": "minister treaty border", "Sports": "coach goal stadium", "Business": "shares profit bank"}
EXTRA = ["the", "a", "of", "and", "new", "old", "says", "near", "after", "before", "in", "on", "with", "for"]


def news(name: str, n: int, *, seed: int) -> list[str]:
    """n different short texts with words of one class."""
    rng = np.random.default_rng(seed)
    return [
        f"{' '.join(rng.choice(WORDS[name].split(), 3))} {' '.join(rng.choice(EXTRA, 7))} no {i}." for i in range(n)
    ]


def write_csv(path: Path, header: str, rows: list[str]) -> None:
    path.write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture
def made(tmp_path):
    """Settings of the smallest small scale: a three-class task and a corpus per role, all hand-made."""
    task, plain = tmp_path / "task", tmp_path / "plain"
    task.mkdir(), plain.mkdir()
    (task / "classes.txt").write_text("\n".join(WORDS))
    for part, seed in (("train", 1), ("test", 2)):
        rows = [f"{c},{part},{t}" for c, name in enumerate(WORDS, 1) for t in news(name, 10, seed=seed)]
        write_csv(task / f"{part}.csv", "class_index,title,description", rows)
    (plain / "a.txt").write_text("\n".join(t for name in WORDS for t in news(name, 40, seed=3)))
    rows = [f"{c},more,{t},," for c, name in enumerate(WORDS, 1) for t in news(name, 15, seed=4)]
    rows += [f"{c},,,joined {t}," for c, name in enumerate(WORDS, 1) for t in news(name, 15, seed=5)]
    write_csv(tmp_path / "labelled.csv", "class_index,title,description,joined_text,source", rows)
    return make_settings(
        task=str(task), student="small", student_corpus=str(plain), student_steps=3, max_length=24,
        generator="small", generator_corpus=str(tmp_path / "labelled.csv"), generator_steps=6, max_new_tokens=16,
        lesson_size=6, train_size=9, pool_size=0, dev_size=6, test_size=0, hard_examples=2,
    )  # fmt: skip


def with_(settings, **changed):
    return make_settings(**settings.model_dump() | changed)


@pytest.mark.parametrize("role", ["student", "generator"])
def test_a_model_survives_the_disk(role, made, tmp_path):
    lm = initial_model(role, made)
    lm.save(tmp_path / role)
    tokenizer = lm.tokenizer
    loaded, again = loading.load(str(tmp_path / role))
    text = "  Zürich – 'coach' says:\n2-1, 5% & more…"
    assert loading.token_ids(again, [text]) == loading.token_ids(tokenizer, [text])
    assert again.decode(loading.token_ids(again, [text])[0]) == text
    assert loaded.config.model_type == {"student": "gpt_neox", "generator": "qwen2"}[role]
    assert len({again.pad_token_id, again.eos_token_id}) == 2 and loaded.generation_config.eos_token_id == [
        again.eos_token_id
    ]
    assert bool(again.chat_template) == (role == "generator")
    for key, value in lm.model.state_dict().items():
        assert value.equal(loaded.state_dict()[key]), key


def test_the_seed_decides_the_weights(made):
    def weights(settings):
        return initial_model("student", settings)[0].get_input_embeddings().weight

    assert weights(made).equal(weights(made))
    assert not weights(made).equal(weights(with_(made, seed=1)))


def test_cache_keys_follow_the_corpus(made):
    before = {role: cache_key(role, made) for role in ("student", "generator")}
    assert before == {role: cache_key(role, made) for role in ("student", "generator")}
    for role, path in (("student", Path(made.student_corpus) / "a.txt"), ("generator", Path(made.generator_corpus))):
        path.write_text(path.read_text().replace("bank", "loan", 1))
        assert cache_key(role, made) != before[role]
    classes, changed = Path(made.task) / "classes.txt", cache_key("generator", made)
    classes.write_text(classes.read_text().replace("World", "Earth"))
    assert cache_key("generator", made) != changed


def test_the_generator_is_asked_in_the_words_of_prompts_py(made):
    tokenizer, batches = small.generator_lesson("generator", made, (), np.random.default_rng(0))
    assert len(batches) == made.generator_steps == sum(small.kind_steps(made.generator_steps).values())
    names, seen = list(WORDS), set()
    writes = [chat(tokenizer, read_prompts().write.format(label=name)) for name in names]
    question = chat(tokenizer, read_prompts().label_turn("", names))
    for asked, answer in questions_and_answers(tokenizer, batches):
        if asked in writes:
            seen.add("write")
            assert class_of(answer) == names[writes.index(asked)]
        elif asked.endswith(question.removeprefix(small.USER)):
            seen.add("label")
            assert answer == class_of(asked.split("\n")[0]) + small.END
        else:
            seen.add("explain")
            hard = asked.split("hard to learn from: ")[1].split("\n")[0]
            assert class_of(answer) == class_of(hard) and answer.removesuffix(small.END) != hard
    assert seen == {"write", "explain", "label"}


def questions_and_answers(tokenizer, batches):
    """Decoded question and answer of every row; the hard text of an explain row is learned with its answer."""
    for ids, targets in batches:
        for row, learned in zip(ids, targets != -100, strict=True):
            start = row.tolist().index(tokenizer.convert_tokens_to_ids(small.ASSISTANT)) + 1
            asked, length = tokenizer.decode(row[:start]), int((row != tokenizer.pad_token_id).sum())
            assert learned.nonzero()[0] == (0 if "hard to learn from" in asked else start)
            assert learned.nonzero()[-1] == length - 1 and learned[start:length].all()
            yield asked, tokenizer.decode(row[start:length])


def class_of(text: str) -> str:
    """The class whose words a hand-made text has."""
    return max(WORDS, key=lambda name: sum(word in WORDS[name].split() for word in text.split()))


def test_an_answer_is_learned_and_its_question_is_not():
    tokenizer = small.byte_tokenizer(["a question and its answer"], chat_template=small.CHAT_TEMPLATE)
    rows, lengths = small.answer_rows(tokenizer, ["a question"], [" its answer"], 40)
    [(ids, targets)] = small.answer_batches(tokenizer, rows, lengths, np.random.default_rng(0))
    learned = targets[targets != -100]
    assert tokenizer.decode(learned) == f" its answer{small.END}"
    assert tokenizer.decode(ids[targets == -100]) == "<|user|>a question<|assistant|>"


def test_a_cut_answer_does_not_end():
    tokenizer = small.byte_tokenizer(["a question and its answer"])
    [row], [length] = small.answer_rows(tokenizer, ["a"], ["b c d e f"], 4)
    assert len(row) == length + 4 and tokenizer.eos_token_id not in row[1:]


def test_packed_windows_are_full_and_begin_with_end_of_text():
    documents = ["one two three four", "five six seven"]
    tokenizer = small.byte_tokenizer(documents)
    windows = small.packed_windows(tokenizer, documents, 5, 12, np.random.default_rng(0))
    assert windows.shape == (5, 12) and (windows[:, 0] == tokenizer.eos_token_id).all()
    assert tokenizer.pad_token_id not in windows
    assert set(tokenizer.decode(windows[:, 1:].ravel()).replace(small.END, " ").split()) >= {"one", "five", "seven"}


def test_texts_of_the_task_are_left_out(made, capsys):
    path = Path(made.student_corpus) / "leak.txt"
    path.write_text("\n".join(f"Test  {text.upper()}" for text in news("Sports", 10, seed=2)))  # as the test has them
    small.plain_lesson("student", made, (), np.random.default_rng(0))
    assert "student_corpus: 10 of 130 texts left out" in capsys.readouterr().out
