"""Own data in one command: what it says of the data, the file it writes, and that the file runs."""

import csv
import random
import shutil
from pathlib import Path

import pytest
from row_by_row import row_by_row

from symbiosis import new, params
from symbiosis.data.readers import DataError
from symbiosis.loop import runs
from symbiosis.settings import RunSettings, make_settings
from symbiosis.yaml_files import read_params

ROOT = Path(__file__).resolve().parents[1]
WORDS = {
    "Billing": ["invoice", "refund", "charge", "payment"],
    "Account": ["password", "login", "profile", "lock"],
    "Техника": ["экран", "сбой", "ошибка", "обновление"],
}
FIRST_LOOK = {arm: params.all_arms()[arm] for arm in params.named_arms(["first_look"])}


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository of nothing but the scales, as the place to work in, and data beside it."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params").mkdir()
    shutil.copy(ROOT / "params/paper.yaml", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    for name, rows in (("train", 120), ("test", 30)):
        (tmp_path / "tickets").mkdir(exist_ok=True)
        with open(tmp_path / f"tickets/{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for number in range(rows):
                label = list(WORDS)[number % 3]
                writer.writerow([f"{name} {number}: {' and '.join(rng.sample(WORDS[label], 3))}", label])
            writer.writerow([f"train 0: {label}", label])  # in both files
    return tmp_path


def test_own_data_of_three_classes_walks_from_a_folder_to_rows(clone, neox_folder, qwen_folder):
    path, said = new.new("tickets", "tickets", str(neox_folder), str(qwen_folder))
    assert "121 rows to learn from, 120 distinct; 31 test rows" in said
    assert "classes: Account 40, Billing 40, Техника 41" in said and "1 equals test" in said
    given = read_params(path)
    sizes = {name: given[f"{name}_size"] for name in new.ROWS}
    assert sizes["dev"] + sizes["train"] + sizes["pool"] <= 120 and sizes["test"] <= 31
    assert all(least <= sizes[name] <= most for name, (most, least) in new.ROWS.items()), sizes
    assert given["precision"] == "auto" and given["device"] in ("cpu", "auto")
    assert set(given) == set(read_params("params/paper.yaml"))
    fast = {"generations": 1, "epochs": 1, "max_new_tokens": 8, "generation_batch_size": 16}
    for method in ("real", "pseudo_label"):
        rows = runs.run(make_settings(**given | fast | {"method": method}))
        assert rows.query("metric == 'accuracy'")["n"].unique() == [31]


def test_a_first_look_is_a_quick_students_whose_arms_all_run(clone, qwen_folder):
    path, said = new.new("tickets", "tickets", generator=str(qwen_folder))
    assert "written: params/own/tickets.yaml; next: make reproduce SCALE=tickets SEEDS=1 ARMS=first_look" in said
    assert "make new NAME=tickets_full DATA=tickets STUDENT=smollm2-135m-instruct" in said
    given = read_params(path)
    assert (given["student"], given["calibration"], given["prompts"]) == ("probe", "pool", "texts")
    accuracy, fast = {}, {"max_new_tokens": 8, "generation_batch_size": 16, "hard_examples": 4}
    for arm, method in FIRST_LOOK.items():
        rows = runs.run(make_settings(**given | method | fast))
        accuracy[arm] = rows.query("metric == 'accuracy' and generation == 2")["value"].item()
    assert accuracy["real"] > 0.6 and len(accuracy) == 4, accuracy  # guessing: 0.33; the words tell the classes


def test_beliefs_are_calibrated_by_the_pool_unless_one_class_has_most_of_it(clone, qwen_folder):
    train = clone / "tickets/train.csv"
    head, *rows = train.read_text(encoding="utf-8").splitlines()
    few = [row for i, row in enumerate(rows) if row.endswith("Billing") or i % 5 == 0]
    train.write_text("\n".join([head, *few]), encoding="utf-8")
    path, said = new.new("tickets", "tickets", generator=str(qwen_folder))
    assert "Account 8, Billing 40" in said and read_params(path)["calibration"] == "none"


def test_names_that_a_model_spells_are_told(clone, qwen_folder, monkeypatch):
    for most, said in ((4, True), (100, False)):  # tokens a name: here the letters of Техника are two each
        monkeypatch.setattr(new, "SPELLED", most)
        told = new.new(f"tickets{most}", "tickets", generator=str(qwen_folder))[1]
        assert ("the model spells them, so it may not know their language" in told) is said


@row_by_row(
    ("name", "data", "error", "words"),
    [
        ("Tickets!", "tickets", new.NewError, "NAME=Tickets!: take small letters"),
        ("paper", "tickets", new.NewError, "params/ does not have yet"),
        ("t", "nowhere", DataError, "nowhere is not there"),
    ],
)
def test_what_cannot_be_written_is_told_and_nothing_is_written(clone, neox_folder, name, data, error, words):
    with pytest.raises(error, match=words):
        new.new(name, data, str(neox_folder))
    assert not (clone / "params/own").exists()


def test_a_file_that_is_there_stays(clone, neox_folder, qwen_folder):
    path, _ = new.new("tickets", "tickets", str(neox_folder), str(qwen_folder))
    before = path.read_bytes()
    with pytest.raises(new.NewError, match="is there already"):
        new.new("tickets", "tickets", str(neox_folder))
    assert path.read_bytes() == before and RunSettings.model_fields.keys() >= read_params(path).keys()
