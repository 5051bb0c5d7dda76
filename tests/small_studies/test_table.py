"""The committed table is that of the code; what `make studies` makes is kept, and what it cannot make is said."""

import numpy as np
import pandas as pd
import pytest

from symbiosis import params, small_studies
from symbiosis.small_studies import __main__ as command
from symbiosis.small_studies import beyond_language
from symbiosis.store.results import COLUMNS, NotRun
from symbiosis.theory.next_token import tail_mass


def test_the_committed_rows_are_those_of_the_code(monkeypatch):
    chains = beyond_language.CHAINS
    monkeypatch.setattr(beyond_language, "simulate_vae", lambda *args, **how: {chain: [[]] for chain in chains})
    made = pd.concat([command.make("beyond_language", [301]), command.make("planted_error", 301)])
    committed = pd.concat([small_studies.read("reports", study) for study in ("beyond_language", "planted_error")])
    assert sorted(committed["seed"].unique()) == list(range(301, 321))
    keys = [name for name in COLUMNS if name not in ("value", "n")]
    both = made.merge(committed, on=keys, suffixes=("", "_committed"), validate="1:1")
    assert len(both) == len(made) > 150
    np.testing.assert_allclose(both["value"], both["value_committed"], atol=2e-6)


def test_the_tail_is_foretold_from_the_recursion_without_real_rows():
    values = {"recursive-r000_free": 0.5**10, "recursive-r050_free": 0.4}
    lines = [(arm, 7, g, "lesson_tail_mass", v * small_studies.TRUE_TAIL) for arm, v in values.items() for g in (9, 10)]
    rows = pd.DataFrame(lines, columns=["arm", "seed", "generation", "metric", "value"])
    found = small_studies.tail_forecast(rows).set_index("real_share")
    assert found["kept"].tolist() == pytest.approx([0.5, 0.5]) and found.at[0.5, "found"] == pytest.approx(0.4)
    assert found.at[0.5, "foretold"] == pytest.approx(tail_mass(10, kept=0.5, real_share=0.5)[-1])


def test_what_make_studies_makes_is_kept_and_what_it_cannot_make_is_said(tmp_path, monkeypatch, capsys):
    def made(study, seed, *folders):
        if folders:
            raise NotRun(f"no runs below {folders[0]}")
        return small_studies.table("third_lever", [("lever", "plain", seed, 1, "accuracy", seed / 1000, 10)])

    monkeypatch.setattr(params, "LOCAL", str(tmp_path))
    monkeypatch.setattr(small_studies, "SECONDS", {"third_lever": 30, "open_ended": 5})
    monkeypatch.setattr(command, "make", made)
    assert small_studies.left(2) == [
        ("third_lever", 401),
        ("third_lever", 402),
        ("open_ended", 11),
        ("open_ended", 12),
    ]
    command.main(["all", "2"])
    assert f"left out: no runs below {tmp_path}" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "small_studies.csv")
    assert rows["value"].tolist() == [0.401, 0.402] and small_studies.left(2) == [
        ("open_ended", 11),
        ("open_ended", 12),
    ]


def test_every_study_is_a_function_in_the_module_of_its_name_and_another_is_refused_by_name():
    published = pd.read_csv("reports/small_studies.csv")
    assert set(published["study"]) == set(small_studies.STUDIES) >= set(small_studies.SECONDS)
    firsts = published.groupby("study")["seed"].min().to_dict()
    assert firsts == small_studies.FIRST_SEEDS
    with pytest.raises(NotRun, match=r"no small study is named 'sensitvity'; there are .*sensitivity"):
        command.main(["sensitvity", "1", "2"])
    for study in small_studies.STUDIES:
        assert callable(command.function(study))
