"""The miniature's models: their tokenizer, and what they read."""

from itertools import cycle

import numpy as np
import pytest
import torch
from row_by_row import row_by_row

from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models.chat import chat
from symbiosis.pretrain import miniature
from symbiosis.pretrain.miniature import word_tokenizer
from symbiosis.prompts import read_prompts
from symbiosis.settings import RunSettings

WORLD, NEWS = World.make(0), read_prompts()


def attributes_of(world):
    """Every subtopic once with its class, every style and every length at least once."""
    subjects = [(label, name) for label, names in zip(LABEL_NAMES, world.subtopics, strict=True) for name in names]
    return [(*s, a, b) for s, a, b in zip(subjects, cycle(NEWS.styles), cycle(NEWS.lengths), strict=False)]


def a_run(generator_steps: int = 600, **world) -> RunSettings:
    return RunSettings(generator_steps=generator_steps, **world)


def test_texts_survive_the_tokenizer_and_labels_names_and_controls_are_one_token_each():
    tokenizer = word_tokenizer(WORLD, "student")
    texts = WORLD.sample(200, np.random.default_rng(0)).text.tolist()
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.batch_decode(ids) == texts
    assert [len(row) for row in ids] == [len(text.split()) + 2 for text in texts]  # every '.' is a token of its own
    assert tokenizer.unk_token_id not in {i for row in ids for i in row}

    tokenizer = word_tokenizer(WORLD, "student")
    assert [len(tokenizer(f" {label}")["input_ids"]) for label in LABEL_NAMES] == [1, 1, 1, 1]

    generator, student = word_tokenizer(WORLD, "generator"), word_tokenizer(WORLD, "student")
    names = {name for names in WORLD.subtopics for name in names}
    assert len(names) == 24
    assert names < set(generator.get_vocab())
    assert not names & set(student.get_vocab())
    assert not names & set(WORLD.vocabulary())  # a name is never copied out of a text

    tokenizer = word_tokenizer(WORLD, "student")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<bos>", "<eos>", "<pad>")
    ids = tokenizer("<bos> the city. <eos>")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the city."


def test_prompts_and_labels_have_no_unknown_word():
    tokenizer = word_tokenizer(WORLD, "generator")
    text = WORLD.sample(1, np.random.default_rng(0)).text[0]
    asked = [
        NEWS.write.format(label="Sports"),
        NEWS.explain.format(text=text),
        NEWS.label_turn(text, LABEL_NAMES),
        *(NEWS.name.format(label=label) for label in LABEL_NAMES),
        *(NEWS.write_about_turn(*attributes) for attributes in attributes_of(WORLD)),
        NEWS.student_classify.format(text=text) + " Science",
        NEWS.student_write.format(label="World"),
    ]
    for prompt in asked:
        assert tokenizer.unk_token_id not in tokenizer(prompt)["input_ids"], prompt
    assert tokenizer.unk_token_id in tokenizer("zeppelin")["input_ids"]  # and an unknown word would have been seen


def test_chat_template_by_hand():
    generator, student = word_tokenizer(WORLD, "generator"), word_tokenizer(WORLD, "student")
    assert chat(generator, "report this.") == "<user> report this. <assistant> "
    assert chat(student, "report this.") == "report this.\n"  # the Student has no chat template
    ids = generator("<user> report this. <assistant> ")["input_ids"]
    assert generator.convert_ids_to_tokens(ids) == ["<user>", "report", "this", ".", "<assistant>"]


def test_student_reads_texts_and_no_labels():
    tokenizer = word_tokenizer(WORLD, "student")
    batches = miniature.student_batches(WORLD, tokenizer, 3, 4, np.random.default_rng(0))
    assert [len(ids) for ids, _ in batches] == [4, 4, 4]
    labels = set(tokenizer.convert_tokens_to_ids(list(LABEL_NAMES)))
    for ids, targets in batches:
        assert (ids[:, 0] == tokenizer.bos_token_id).all()
        assert (ids[torch.arange(4), (targets != -100).sum(1) - 1] == tokenizer.eos_token_id).all()
        assert not labels & set(ids.flatten().tolist())


ASKED_WORDS = {
    "write": "write a short",
    "explain": "hard to learn from",
    "label": "which topic",
    "name": "name one narrow subject",
    "write_about": "news about",
}


def test_generator_batches_hold_one_kind_each_in_the_stated_shares():
    tokenizer = word_tokenizer(WORLD, "generator")
    batches = miniature.generator_batches(WORLD, tokenizer, a_run(100), 2, np.random.default_rng(0))
    asked = [text.split("<assistant>")[0] for ids, _ in batches for text in tokenizer.batch_decode(ids)]
    kinds = [next(kind for kind, words in ASKED_WORDS.items() if words in text) for text in asked]
    assert kinds[::2] == kinds[1::2]  # the two rows of a batch
    counts = {kind: kinds[::2].count(kind) for kind in ASKED_WORDS}
    assert counts == {kind: round(100 * share) for kind, share in miniature.KIND_SHARES.items()}
    assert sum(counts.values()) == 100
    first = next(iter(miniature.KIND_SHARES))
    assert set(kinds[: counts[first]]) != {first}  # shuffled


@row_by_row("steps", [1, 8, 333])
def test_every_step_has_a_batch_and_a_short_training_is_possible(steps):
    tokenizer = word_tokenizer(WORLD, "generator")
    batches = miniature.generator_batches(WORLD, tokenizer, a_run(steps), 1, np.random.default_rng(0))
    assert len(batches) == steps


def test_explanations_keep_the_subtopic_and_labels_are_true():
    tokenizer, rng = word_tokenizer(WORLD, "generator"), np.random.default_rng(0)
    rows = [row.split("<assistant>") for row in miniature.prompt_rows("explain", WORLD, tokenizer, 200, rng, a_run())]
    texts = [asked.split(": ", 1)[1].rsplit("\n", 1)[0] for asked, _ in rows]
    answers = [answer.removesuffix(" <eos>").strip() for _, answer in rows]
    assert np.isfinite(WORLD.log_likelihood(texts)).all() and np.isfinite(WORLD.log_likelihood(answers)).all()
    assert (WORLD.subtopic(texts) == WORLD.subtopic(answers)).mean() > 0.9  # .98 each is read correctly
    rows = [row.split("<assistant>") for row in miniature.prompt_rows("label", WORLD, tokenizer, 200, rng, a_run())]
    texts = [asked.removeprefix("<user> ").rsplit("\n", 1)[0] for asked, _ in rows]
    given = np.array([LABEL_NAMES.index(label.split()[0]) for _, label in rows])
    assert (WORLD.posterior(texts).argmax(axis=1) == given).mean() > 0.95


# mass of the rare subtopics under shares^2.2, ^1.2 and ^1, by hand
TAIL_MASS = {2.2: 0.166, 1.2: 0.363, 1.0: 0.416}


@row_by_row(
    ("kind", "power", "world"),
    [
        ("write", 2.2, {}),
        ("label", 1.2, {}),
        ("write_about", 1.2, {}),
        ("explain", 1.0, {}),
        ("write_about", 2.2, {"name_power": 2.2}),  # naming knows the tails no better than writing
        ("explain", 2.2, {"explain_by": "class"}),  # as written, whatever the source is about
    ],
)
def test_the_generator_learns_to_write_heads_and_everything_else_wider(kind, power, world):
    tokenizer, n, rng = word_tokenizer(WORLD, "generator"), 4000, np.random.default_rng(0)
    rows = [row.split("<assistant>") for row in miniature.prompt_rows(kind, WORLD, tokenizer, n, rng, a_run(**world))]
    if kind == "label":
        texts = [asked.removeprefix("<user> ").rsplit("\n", 1)[0] for asked, _ in rows]
    else:
        texts = [answer.removesuffix(" <eos>").strip() for _, answer in rows]
    mass, stderr = WORLD.in_tail(texts).mean(), 0.5 / n**0.5
    assert mass == pytest.approx(TAIL_MASS[power], abs=0.02 + 3 * stderr)  # .98 of the texts are read correctly


def test_names_are_subtopics_of_the_asked_class():
    tokenizer = word_tokenizer(WORLD, "generator")
    rows = miniature.prompt_rows("name", WORLD, tokenizer, 400, np.random.default_rng(0), a_run())
    asked, answers = zip(*(row.split(" <assistant> ") for row in rows), strict=True)
    labels = [LABEL_NAMES.index(text.split(" of ")[1].split()[0]) for text in asked]
    names = [answer.removesuffix(" <eos>") for answer in answers]
    assert all(name in WORLD.subtopics[label] for label, name in zip(labels, names, strict=True))
    assert len(set(names)) == 24


def test_texts_about_a_subject_are_of_it_and_style_and_length_change_nothing():
    tokenizer = word_tokenizer(WORLD, "generator")
    rows = miniature.prompt_rows("write_about", WORLD, tokenizer, 1200, np.random.default_rng(0), a_run())
    asked, answers = zip(*(row.split(" <assistant> ") for row in rows), strict=True)
    texts = np.array([answer.removesuffix(" <eos>") for answer in answers])
    assert np.isfinite(WORLD.log_likelihood(texts)).all()
    number = {name: c * 6 + k for c, names in enumerate(WORLD.subtopics) for k, name in enumerate(names)}
    subjects = [number[text.split(" about ")[1].split(",")[0]] for text in asked]
    assert (WORLD.subtopic(texts) == subjects).mean() > 0.9  # .98 are read correctly
    for phrases in (NEWS.styles, NEWS.lengths):
        words = [np.mean([len(t.split()) for t in texts[[phrase in a for a in asked]]]) for phrase in phrases]
        assert words == pytest.approx([np.mean(words)] * len(phrases), abs=1.0)  # stderr of a mean is below .2
