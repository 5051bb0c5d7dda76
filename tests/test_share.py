"""A run's lessons as a data set: whole, with its terms and the words it was asked in."""

import pandas as pd
import pytest
import yaml
from row_by_row import row_by_row

from symbiosis import share
from symbiosis.loop import runs
from symbiosis.prompts import read_prompts
from symbiosis.settings import RunSettings
from symbiosis.store.stages import RunError, run_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    sizes = dict.fromkeys(("lesson_size", "train_size", "pool_size", "dev_size", "test_size"), 24)
    sizes |= {"generations": 2, "student_steps": 5, "generator_steps": 5}
    settings = RunSettings(method="static", scale="tiny", reports_dir=str(tmp_path_factory.mktemp("r")), **sizes)
    runs.run(settings)
    return run_folder(settings)


def test_a_shared_run_is_read_back_as_a_data_set_and_its_card_tells_its_terms(run, tmp_path):
    out = share.share(run, tmp_path / "out")
    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    files = head["configs"][0]["data_files"]
    assert [file["split"] for file in files] == ["gen_1", "gen_2"] and head["license"] == "apache-2.0"
    for number, file in enumerate(files, 1):
        shared = pd.read_parquet(out / file["path"])
        assert shared.equals(pd.read_parquet(run / f"lessons/gen-{number}.parquet")) and len(shared) == 24
    assert "0 of 48 rows quote a text" in card and repr(read_prompts().write) in card
    assert "lesson_distinct_2" in card and "generations: 2" in card


@row_by_row(
    ("task", "licence", "words"),
    [
        ("fancyzhx/ag_news", "other", "non-commercial"),
        ("data/ag_news", "other", "non-commercial"),
        ("allenai/sciq", "cc-by-nc-3.0", "no commercial use"),
        ("tickets", "other", "look them up"),
    ],
)
def test_terms_follow_the_texts_of_the_task(task, licence, words):
    assert share.terms_of(task)[0] == licence and words in share.terms_of(task)[1]


def test_a_damaged_or_missing_run_is_not_shared(run, tmp_path):
    with pytest.raises(SystemExit, match="no finished run 'no/such/run'"):
        share.main(["no/such/run"])
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in ("record.json", "rows.csv"):
        (damaged / name).write_bytes((run / name).read_bytes())
    with pytest.raises(RunError):
        share.share(damaged, tmp_path / "none")
    assert not (tmp_path / "none").exists()
