"""Splits that share nothing, follow the seed, and one clear sentence for sizes that do not fit."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from row_by_row import row_by_row

from symbiosis.data.readers import DataError
from symbiosis.data.task import check_disjoint, load_task
from symbiosis.settings import RunSettings, make_settings

SIZES = {"dev_size": 4, "train_size": 6, "pool_size": 8, "test_size": 0, "lesson_size": 4, "hard_examples": 2}


def settings(task, **given):
    return make_settings(**SIZES | {"task": str(task)} | given)


def rows(n, start=0):
    return [(f"Story number {i} of the day", i % 4) for i in range(start, start + n)]


@pytest.fixture
def folder(tmp_path):
    """A task of 24 rows, 6 of them in each of four classes, and 6 test rows."""
    return write_folder(tmp_path, rows(24), rows(6, start=100))


def write_folder(folder, train, test):
    for name, labelled in (("train", train), ("test", test)):
        lines = [json.dumps({"text": text, "label": label}) for text, label in labelled]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("World\nSports\nBusiness\nSci/Tech\n")
    return folder


def fails(task, message, **given):
    with pytest.raises(DataError, match=message):
        load_task(settings(task, **given))


# --- splits --------------------------------------------------------------------------------------------------------
def test_splits_have_the_sizes_asked_for_or_say_what_does_not_fit(folder):
    task = load_task(settings(folder))
    assert (len(task.dev), len(task.train), len(task.pool), len(task.test)) == (4, 6, 8, 6) and task.name == folder.name
    assert task.pool.column_names == ["text", "source_id"]
    for part in (task.train, task.dev, task.test):
        assert part.column_names == ["text", "label", "source_id"]
    assert len(load_task(settings(folder, pool_size=0)).pool) == 24 - 4 - 6
    assert len(load_task(settings(folder, train_size=0)).train) == 24 - 4 - 8
    assert len(load_task(settings(folder, test_size=3)).test) == 3

    fails(
        folder,
        r"24 distinct rows outside the test, but dev_size 4 \+ train_size 6 \+ pool_size 15 asks for 25",
        pool_size=15,
    )
    fails(folder, r"asks for 24 and leaves no pool rows, whose 0 takes the rest", train_size=20, pool_size=0)
    fails(folder, r"train_size, pool_size: both are 0", train_size=0, pool_size=0)
    fails(folder, r"test_size asks for 7 of 6 test rows; lower it", test_size=7)

    given = {"dev_size": 40, "train_size": 300, "pool_size": 500, "test_size": 200}
    task = load_task(settings("miniature", seed=3, **given))
    assert (len(task.dev), len(task.train), len(task.pool), len(task.test)) == tuple(given.values())
    assert max(Counter(task.test["label"]).values()) < 100 and len(task.label_names) == 4
    assert task.fingerprint == load_task(settings("miniature", seed=3, **given)).fingerprint
    assert task.fingerprint != load_task(settings("miniature", seed=4, **given)).fingerprint


def test_planted_overlap_and_repeats_never_survive(tmp_path, capsys):
    """Random folders with planted test texts and repeats: counts are exact and all splits are disjoint."""
    for seed in range(6):
        draw = random.Random(seed)
        planted = draw.sample(rows(10, start=100), draw.randint(1, 5))
        repeated = draw.sample(rows(30), draw.randint(1, 5))
        train = rows(30) + [(disguise(text), label) for text, label in planted + repeated]
        folder = write_folder(tmp_path, draw.sample(train, len(train)), rows(10, start=100))
        task = load_task(settings(folder, seed=seed, test_size=draw.randint(1, 10), pool_size=0))
        assert task.overlap == {"equals_test": len(planted), "repeated": len(repeated)}
        dropped = f"{len(planted)} dropped as also in the test, {len(repeated)} as repeated"
        assert f"of {len(train)} training rows {dropped}" in capsys.readouterr().out
        assert len(task.dev) + len(task.train) + len(task.pool) == 30
        check_disjoint({"dev": task.dev, "train": task.train, "pool": task.pool, "test": task.test})


def disguise(text):
    """The same story for the match key, another string for ==."""
    return f"  &quot;{text.upper()}&quot; -- !"


def test_check_disjoint_names_the_two_splits_and_the_text():
    parts = {"dev": {"text": ["A story."]}, "pool": {"text": ["other"]}, "test": {"text": ["a  STORY"]}}
    with pytest.raises(DataError, match=r"dev and test share a text \(match key 'astory'\); remove it"):
        check_disjoint(parts)
    check_disjoint({"dev": parts["dev"], "pool": parts["pool"]})


def test_splits_follow_the_seed_and_the_fingerprint_follows_the_rows(folder):
    first, again, other = (load_task(settings(folder, seed=seed)) for seed in (1, 1, 2))
    assert first.pool["text"] == again.pool["text"] and first.fingerprint == again.fingerprint
    assert first.pool["text"] != other.pool["text"] and first.fingerprint != other.fingerprint


# --- the miniature -------------------------------------------------------------------------------------------------
def test_a_skewed_pool_shows_less_of_what_the_test_shows_of_any_task(folder):
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

    whole, without = (load_task(settings(folder, pool_size=4, pool_skew=skew)) for skew in ("none", "no_class"))
    assert len(whole.pool) == len(without.pool) == 4 and whole.dev["text"][:] == without.dev["text"][:]
    assert len(load_task(settings(folder, pool_size=0, pool_skew="no_class")).pool) >= 8
    fails(
        folder, r"pool_skew 'no_class' leaves \d+ rows where pool_size asks for 14", pool_size=14, pool_skew="no_class"
    )


@row_by_row(("pool_size", "few"), [(0, 3), (90, 3), (25, 1)])  # 0 takes all others, about 98
def test_a_class_can_be_rare_in_the_pool_of_any_task(tmp_path, pool_size, few):
    """RARE_CLASS of the pool is of the class that no_class would take away; the others are the same, in order."""
    folder = write_folder(tmp_path, rows(140), rows(6, start=500))
    asked = {"pool_size": pool_size, "pool_skew": "rare_class"}
    rare, without = (
        load_task(settings(folder, **asked | {"pool_skew": skew})).pool["text"][:]
        for skew in ("rare_class", "no_class")
    )
    classes = [int(text.split()[2]) % 4 for text in rare]
    gone = ({0, 1, 2, 3} - {int(text.split()[2]) % 4 for text in without}).pop()
    assert classes.count(gone) == few and len(rare) == (pool_size or len(without) + few)
    others = [text for text, label in zip(rare, classes, strict=True) if label != gone]
    assert others == without[: len(others)]
    fails(folder, r"pool_skew 'rare_class' leaves \d+ rows where pool_size asks for 120", **asked | {"pool_size": 120})
