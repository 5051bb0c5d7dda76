"""Single factors, regimes, dev labels and long runs: hand-made rows with known answers."""

import math

import numpy as np
import pandas as pd
import pytest

from symbiosis.analysis import studies, tables
from symbiosis.params import study_cells, study_twins
from symbiosis.store import results

T_975_2 = 4.302653  # Student's t, two degrees of freedom


def rows_of(arms, metric="accuracy", generation=3, study="main"):
    """{arm: {seed: value}} as rows of results.csv with `arm`, at one generation."""
    rows = []
    for arm, values in arms.items():
        method, _, variant = arm.partition("-")
        head = {"study": study, "method": method, "variant": variant or "plain", "scale": "miniature", "arm": arm}
        for seed, value in values.items():
            tail = {"unit": "share", "n": 1000, "run_id": f"miniature/{study}/{arm}-s{seed}@{seed:08x}"}
            numbers = {"seed": seed, "generation": generation, "metric": metric, "value": value}
            rows.append(head | numbers | tail)
    return pd.DataFrame(rows)


def seeds(*values, first=11):
    return dict(enumerate(values, first))


def cell(**changes):
    return {"feedback": "random", "generator_update": "none", "candidates": 1} | changes


CELLS = {
    "symbiosis-a": cell(),
    "symbiosis-b": cell(feedback="lm_loss"),
    "symbiosis-c": cell(candidates=3),
    "symbiosis-d": cell(feedback="lm_loss", candidates=3),
}
VALUES = {
    "symbiosis-a": seeds(0.1, 0.1, 0.1),
    "symbiosis-b": seeds(0.2, 0.3, 0.4),  # - a: .1 .2 .3
    "symbiosis-c": seeds(0.2, 0.1, 0.3),
    "symbiosis-d": seeds(0.5, 0.5, 0.8),  # - c: .3 .4 .5
}


def effects_of(values, cells):
    return studies.ablation_effects(rows_of(values, study="ablation"), cells).set_index(["factor", "level"])


# ---- ablation


def test_an_effect_is_the_mean_over_pairs_and_its_interval_is_over_seeds():
    effects = effects_of(VALUES, CELLS)
    assert list(effects.index) == [("feedback", "lm_loss"), ("candidates", "3")]
    row = effects.loc[("feedback", "lm_loss")]  # over the pairs .2 .3 .4: t = .3 / (.1 / sqrt 3)
    assert (row["reference"], row["pairs"], row["n"]) == ("random", 2, 3)
    half, t = T_975_2 * 0.1 / math.sqrt(3), 3 * math.sqrt(3)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.3, 0.3 - half, 0.3 + half), abs=1e-6)
    assert row["p"] == pytest.approx(1 - t / math.sqrt(2 + t**2))  # the t distribution with two degrees of freedom
    # candidates: c - a = .1 0 .2 and d - b = .3 .2 .4, over the pairs .2 .1 .3
    assert effects.loc[("candidates", "3"), ["mean", "pairs", "n"]].tolist() == pytest.approx([0.2, 2, 3])


def test_holm_covers_all_levels():
    effects = effects_of(VALUES, CELLS).sort_values("p")
    assert effects["p_holm"].iloc[0] == pytest.approx(2 * effects["p"].iloc[0])
    assert effects["p_holm"].iloc[1] == pytest.approx(max(effects["p"].iloc[1], 2 * effects["p"].iloc[0]))


def test_cells_that_differ_in_two_things_are_no_pair():
    other = {"symbiosis-a": cell(), "symbiosis-b": cell(feedback="lm_loss", teaching_share=0.5)}
    assert effects_of(VALUES, other).empty
    same = {"symbiosis-a": cell(), "symbiosis-b": cell(feedback="lm_loss", teaching_share=0.75)}
    assert effects_of(VALUES, same)["pairs"].tolist() == [1]  # the default, spelt out


def test_what_only_tunes_a_level_may_change_with_it():
    cells = {
        "symbiosis-c": cell(candidates=3),
        "symbiosis-d": cell(candidates=3, generator_update="influence", update_temperature=0.5),
    }
    assert effects_of(VALUES, cells).loc[("generator_update", "influence"), "mean"] == pytest.approx(0.4)
    cells["symbiosis-c"] |= {"max_similarity": 0.5}
    assert effects_of(VALUES, cells).empty  # but nothing else may


def test_cells_that_were_not_run_form_no_pair():
    without = {arm: VALUES[arm] for arm in ("symbiosis-a", "symbiosis-b", "symbiosis-c")}
    effects = effects_of(without, CELLS)
    assert effects["pairs"].tolist() == [1, 1]
    assert effects["mean"].tolist() == pytest.approx([0.2, 0.1])


def test_every_seed_averages_over_the_same_cells():
    values = VALUES | {"symbiosis-d": seeds(0.5, 0.5)}  # seed 13 has d nowhere
    row = effects_of(values, CELLS).loc[("feedback", "lm_loss")]
    assert (row["n"], row["mean"]) == (2, pytest.approx(0.25))  # .2 .3; b - a of seed 13 alone does not enter


def test_rows_without_cells_give_an_empty_table_with_its_columns():
    effects = studies.ablation_effects(rows_of(VALUES), {})
    assert effects.empty
    expected = ["factor", "level", "reference", "pairs", "n", "mean", "low", "high", "p", "p_holm"]
    assert list(effects) == expected


def test_the_ablation_is_the_same_with_the_runs_of_its_twins():
    rows = results.read_studies("reports", "miniature")
    cells = study_cells("ablation")
    effects = studies.ablation_effects(studies.with_twins(rows), cells)
    without = rows | {"ablation": rows["ablation"][~rows["ablation"]["arm"].isin(study_twins("ablation"))]}
    pd.testing.assert_frame_equal(studies.ablation_effects(studies.with_twins(without), cells), effects)
    fewer = studies.ablation_effects(without["ablation"], cells)
    assert fewer["pairs"].sum() < effects["pairs"].sum()  # and their absence would have been seen


# ---- regimes and dev labels

WORLDS = {
    "pool_25": {"symbiosis-best": seeds(0.6, 0.7, 0.8), "static": seeds(0.5, 0.5, 0.5)},
    "main": {
        "symbiosis-best": seeds(0.6, 0.6, 0.6),
        "static": seeds(0.5, 0.6, 0.4),
        "pseudo_label": seeds(0.7, 0.8, 0.6),
    },
}


def worlds(**more):
    return {study: rows_of(arms, study=study) for study, arms in (WORLDS | more).items()}


def test_regimes_are_paired_by_seed_and_keep_their_order():
    given = dict(reversed(worlds(ablation=VALUES).items()))  # the order of the rows is no matter, other studies neither
    table = studies.regime_table(given)
    lines = list(zip(table["study"], table["rival"], strict=True))
    assert lines == [("pool_25", "static"), ("main", "static"), ("main", "pseudo_label")]
    first = table.iloc[0]  # d = .1 .2 .3: t = 2 sqrt 3, p = 1 - sqrt(12 / 14)
    assert (first["n"], first["mean"], first["p"]) == pytest.approx((3, 0.2, 1 - math.sqrt(12 / 14)))
    assert first["low"] == pytest.approx(0.2 - T_975_2 * 0.1 / math.sqrt(3), abs=1e-6)
    assert table["mean"].tolist() == pytest.approx([0.2, 0.1, -0.1])
    assert table["p_holm"].min() == pytest.approx(3 * table["p"].min())


def test_regimes_use_common_seeds_and_the_last_generation():
    early = rows_of({"symbiosis-best": seeds(0.0, 0.0), "static": seeds(0.9, 0.9)}, generation=2)
    late = rows_of({"symbiosis-best": seeds(0.6, 0.7), "static": seeds(0.5, 0.5, first=12)})
    (row,) = studies.regime_table({"main": pd.concat([early, late])}).to_dict("records")
    assert (row["n"], row["mean"]) == (1, pytest.approx(0.2))  # seed 12
    assert math.isnan(row["low"]) and math.isnan(row["p_holm"])


def test_a_world_without_the_arm_or_without_a_common_seed_has_no_line():
    assert studies.regime_table({"main": rows_of({"static": seeds(0.5)})}).empty
    apart = rows_of({"symbiosis-best": seeds(0.5), "static": seeds(0.5, first=30)})
    assert studies.regime_table({"main": apart}).empty
    assert list(studies.regime_table({})) == ["study", "rival", "n", "mean", "low", "high", "p", "p_holm"]


def test_every_regime_has_a_label_of_its_own():
    assert len(set(studies.REGIMES.values())) == len(studies.REGIMES)
    assert set(studies.RIVALS) | {studies.BEST} | set(studies.DEV_ARMS) <= set(tables.ARM_NAME)


def test_dev_gains_are_against_static_text_of_the_same_study():
    dev_16 = {"static": seeds(0.5, 0.6), "static-dev": seeds(0.6, 0.8), "symbiosis-best_influence": seeds(0.5, 0.5)}
    main = {"static": seeds(0.9, 0.9), "static-dev": seeds(0.9, 0.8)}
    table = studies.dev_table({s: rows_of(arms, study=s) for s, arms in (("main", main), ("dev_16", dev_16))})
    assert table["dev_rows"].tolist() == [16, 16, 128]
    assert table["arm"].tolist() == ["static-dev", "symbiosis-best_influence", "static-dev"]
    assert table["mean"].tolist() == pytest.approx([0.15, -0.05, -0.05])
    assert studies.dev_table({"pool_25": rows_of(main)}).empty


def test_rows_behind_a_table_are_those_of_its_studies_and_arms():
    given = worlds(pool_100={"pseudo_label": seeds(0.5)})
    used = studies.used_rows(given, studies.regime_table(given), ["symbiosis-best", "static"])
    assert set(used["study"]) == {"pool_25", "main"} and set(used["arm"]) == {"symbiosis-best", "static"}
    assert len(used) == 12


def test_overview_counts_tuning_seeds():
    mixed = rows_of({"static": {0: 0.5, 10: 0.5, 11: 0.5}})
    (row,) = studies.overview({"main": mixed}).to_dict("records")
    assert row == {"study": "main", "arms": 1, "seeds": "0, 10, 11", "tuning_seeds": 2, "generations": 3}


# ---- long runs


def test_long_runs_are_held_against_generation_three_and_the_teacher():
    third = rows_of({"real": seeds(0.8, 0.8), "symbiosis": seeds(0.5, 0.6)}, generation=3)
    last = rows_of({"real": seeds(0.8, 0.9), "symbiosis": seeds(0.7, 0.6)}, generation=10)
    teacher = rows_of({"symbiosis": seeds(0.6, 0.8)}, "generator_accuracy", generation=0)
    later = rows_of({"symbiosis": seeds(0.0, 0.0)}, "generator_accuracy", generation=10)  # after step D: not asked for
    table = studies.beyond_teacher(pd.concat([third, last, teacher, later]))
    found = {(row.arm, row.comparison): row.mean for row in table.itertuples()}
    assert found == pytest.approx({
        ("real", "last generation - generation 3"): 0.05,
        ("symbiosis", "last generation - generation 3"): 0.1,
        ("symbiosis", "Student - Generator at generation 0"): -0.05,
    })  # fmt: skip
    assert table["n"].tolist() == [2, 2, 2]


def test_long_runs_work_where_no_teacher_was_measured_and_refuse_short_ones():
    run = pd.concat([rows_of({"real": seeds(0.8, np.nan)}, generation=g) for g in (3, 4)])
    (row,) = studies.beyond_teacher(run).to_dict("records")
    assert (row["n"], row["mean"]) == (1, 0.0)
    with pytest.raises(ValueError, match="since: 4 is not before the last generation, 4"):
        studies.beyond_teacher(run, since=4)
