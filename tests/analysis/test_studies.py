"""Single factors, regimes, dev labels and long runs: hand-made rows with known answers."""

import math

import numpy as np
import pandas as pd
import pytest

from symbiosis.analysis import studies, tables
from symbiosis.params import study_cells
from symbiosis.store.results import ResultsError

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


def test_cells_that_differ_in_two_things_are_no_pair_but_for_what_tunes_a_level():
    other = {"symbiosis-a": cell(), "symbiosis-b": cell(feedback="lm_loss", teaching_share=0.5)}
    assert effects_of(VALUES, other).empty
    same = {"symbiosis-a": cell(), "symbiosis-b": cell(feedback="lm_loss", teaching_share=0.75)}
    assert effects_of(VALUES, same)["pairs"].tolist() == [1]  # the default, spelt out

    cells = {
        "symbiosis-c": cell(candidates=3),
        "symbiosis-d": cell(candidates=3, generator_update="influence", update_temperature=0.5),
    }
    assert effects_of(VALUES, cells).loc[("generator_update", "influence"), "mean"] == pytest.approx(0.4)
    cells["symbiosis-c"] |= {"max_similarity": 0.5}
    assert effects_of(VALUES, cells).empty  # but nothing else may


def test_cells_that_were_not_run_form_no_pair_and_every_seed_averages_over_the_same_cells():
    without = {arm: VALUES[arm] for arm in ("symbiosis-a", "symbiosis-b", "symbiosis-c")}
    effects = effects_of(without, CELLS)
    assert effects["pairs"].tolist() == [1, 1]
    assert effects["mean"].tolist() == pytest.approx([0.2, 0.1])
    values = VALUES | {"symbiosis-d": seeds(0.5, 0.5)}  # seed 13 has d nowhere
    row = effects_of(values, CELLS).loc[("feedback", "lm_loss")]
    assert (row["n"], row["mean"]) == (2, pytest.approx(0.25))  # .2 .3; b - a of seed 13 alone does not enter
    empty = studies.ablation_effects(rows_of(VALUES), {})
    expected = ["factor", "level", "reference", "pairs", "n", "mean", "low", "high", "p", "p_holm"]
    assert empty.empty and list(empty) == expected


def test_a_cell_that_another_study_ran_stands_in_for_its_own():
    rows = {"ablation": rows_of({arm: VALUES[arm] for arm in ("symbiosis-a", "symbiosis-b", "symbiosis-c")})}
    rows["rare_tail"] = rows_of({"symbiosis-best": VALUES["symbiosis-d"], "static": seeds(0.5)}, study="rare_tail")
    twins = {"symbiosis-d": {"study": "rare_tail", "arm": "symbiosis-best"}}
    effects = studies.ablation_effects(studies.with_twins(rows, twins), CELLS)
    pd.testing.assert_frame_equal(effects, studies.ablation_effects(rows_of(VALUES), CELLS))
    own = {"ablation": rows_of(VALUES), "rare_tail": rows["rare_tail"].assign(value=0.0)}
    pd.testing.assert_frame_equal(studies.ablation_effects(studies.with_twins(own, twins), CELLS), effects)


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


def regimes(rows):
    return studies.lead_table(rows, studies.REGIMES, [studies.BEST], studies.RIVALS)


def test_regimes_are_paired_by_seed_at_the_last_generation_in_their_order():
    given = dict(reversed(worlds(ablation=VALUES).items()))  # the order of the rows is no matter, other studies neither
    table = regimes(given)
    lines = list(zip(table["study"], table["rival"], strict=True))
    assert lines == [("pool_25", "static"), ("main", "static"), ("main", "pseudo_label")]
    first = table.iloc[0]  # d = .1 .2 .3: t = 2 sqrt 3, p = 1 - sqrt(12 / 14)
    assert (first["n"], first["mean"], first["p"]) == pytest.approx((3, 0.2, 1 - math.sqrt(12 / 14)))
    assert first["low"] == pytest.approx(0.2 - T_975_2 * 0.1 / math.sqrt(3), abs=1e-6)
    assert table["mean"].tolist() == pytest.approx([0.2, 0.1, -0.1])
    assert table["p_holm"].min() == pytest.approx(3 * table["p"].min())

    early = rows_of({"symbiosis-best": seeds(0.0, 0.0), "static": seeds(0.9, 0.9)}, generation=2)
    late = rows_of({"symbiosis-best": seeds(0.6, 0.7), "static": seeds(0.5, 0.5, first=12)})
    (row,) = regimes({"main": pd.concat([early, late])}).to_dict("records")
    assert (row["n"], row["mean"]) == (1, pytest.approx(0.2))  # seed 12
    assert math.isnan(row["low"]) and math.isnan(row["p_holm"])
    assert regimes({"main": rows_of({"static": seeds(0.5)})}).empty  # without the arm, without a common seed
    assert regimes({"main": rows_of({"symbiosis-best": seeds(0.5), "static": seeds(0.5, first=30)})}).empty
    assert list(regimes({})) == ["study", "arm", "rival", "n", "mean", "low", "high", "p", "p_holm"]


def test_arms_of_regimes_and_dev_studies_are_held_against_the_right_ones():
    rows = worlds(pool_100={"symbiosis-best": seeds(0.9, 0.9, 0.9)}, labeller_weak={"symbiosis-best": seeds(0.9, 0.9)})
    table = regimes(rows).set_index(["study", "rival"])
    assert table.loc[("pool_100", "static"), "mean"] == pytest.approx(0.4)  # main's static .5 .6 .4
    assert ("pool_100", "pseudo_label") not in table.index and "labeller_weak" not in table.index.levels[0]

    dev_16 = {"static": seeds(0.5, 0.6), "static-dev": seeds(0.6, 0.8), "symbiosis-best_influence": seeds(0.5, 0.5)}
    main = {"static": seeds(0.9, 0.9), "static-dev": seeds(0.9, 0.8)}
    rows = {s: rows_of(arms, study=s) for s, arms in (("main", main), ("dev_16", dev_16))}
    table = studies.lead_table(rows, studies.DEV_STUDIES, studies.DEV_ARMS, ["static"])
    assert table["study"].map(studies.DEV_STUDIES).tolist() == [16, 16, 128]
    assert table["arm"].tolist() == ["static-dev", "symbiosis-best_influence", "static-dev"]
    assert table["mean"].tolist() == pytest.approx([0.15, -0.05, -0.05])

    assert len(set(studies.REGIMES.values())) == len(studies.REGIMES)
    assert set(studies.RIVALS) | {studies.BEST} | set(studies.DEV_ARMS) <= set(tables.STYLES["arms"])


def test_rows_behind_a_table_are_those_of_its_studies_and_arms():
    given = worlds(pool_100={"pseudo_label": seeds(0.5)})
    table = regimes(given)
    used = studies.used_rows(given, table[table["rival"] == "static"])
    assert set(used["study"]) == {"pool_25", "main"} and set(used["arm"]) == {"symbiosis-best", "static"}
    assert len(used) == 12


def test_a_ladder_holds_the_same_lesson_at_every_budget_of_labels():
    some = {
        "ladder_0": {"symbiosis-fresh_filtered": seeds(0.6, 0.7), "real": seeds(0.9, 0.9)},
        "ladder_512": {"symbiosis-filtered_and_rows_256": seeds(0.8, 0.9)},
        "teach": {"symbiosis-teach_mixture": seeds(0.7, 0.7), "static": seeds(0.4, 0.4)},
        "main": {"static": seeds(0.5, 0.5)},
    }
    rows = {study: rows_of(arms, study=study) for study, arms in some.items()}
    found = studies.ladder(rows)
    lines = found[found["arm"] == "symbiosis-filtered_and_rows"].set_index("labels")
    assert list(lines.index) == [0, 512] and list(lines["mean"]) == pytest.approx([0.65, 0.85])
    assert set(found["study"]) == {"ladder_0", "ladder_512", "teach"} and set(found["n"]) == {2}
    assert dict(zip(found["arm"], found["labels"], strict=True))["static-rows"] == 0  # beside a Generator taught by 128
    used = studies.used_rows(rows, found.rename(columns={"arm": "line", "arm_there": "arm"}))
    assert len(used) == 10 and set(used["study"]) == {"ladder_0", "ladder_512", "teach"}
    assert studies.ladder({}).empty


def test_overview_counts_tuning_seeds():
    mixed = rows_of({"static": {0: 0.5, 10: 0.5, 11: 0.5}})
    (row,) = studies.overview({"main": mixed}).to_dict("records")
    assert row == {"study": "main", "arms": 1, "seeds": "0, 10, 11", "tuning_seeds": 2, "generations": 3}


# ---- long runs


def test_long_runs_are_held_against_generation_three_and_the_teacher_where_measured():
    third = rows_of({"real": seeds(0.8, 0.8), "symbiosis": seeds(0.5, 0.6)}, generation=3)
    last = rows_of({"real": seeds(0.8, 0.9), "symbiosis": seeds(0.7, 0.6)}, generation=10)
    teacher = rows_of({"symbiosis": seeds(0.6, 0.8)}, "generator_accuracy", generation=0)
    later = rows_of({"symbiosis": seeds(0.0, 0.0)}, "generator_accuracy", generation=10)  # after step D: not asked for
    table = studies.beyond_teacher(pd.concat([third, last, teacher, later]))
    found = {(row.arm, row.comparison): row.mean for row in table.itertuples()}
    assert found == pytest.approx({
        ("real", "last generation - generation 3"): 0.05,
        ("symbiosis", "last generation - generation 3"): 0.1,
        ("symbiosis", "growth since generation 3 - that of real data"): 0.05,
        ("symbiosis", "Student - Generator at generation 0"): -0.05,
    })  # fmt: skip
    assert table["n"].tolist() == [2, 2, 2, 2]

    run = pd.concat([rows_of({"real": seeds(0.8, np.nan)}, generation=g) for g in (3, 4)])
    (row,) = studies.beyond_teacher(run).to_dict("records")
    assert (row["n"], row["mean"]) == (1, 0.0)
    with pytest.raises(ResultsError, match="since: 4 is not before the last generation, 4"):
        studies.beyond_teacher(run, since=4)


# ---- two crossed factors

LEVELS = (1.0, 2.0)
REALS = (0.0, 0.5)


def layout(table, seeds=4, noise=0.0, reals=REALS, levels=LEVELS, real_only=None, rng=None):
    """A layout of `table` (R, L) plus a shift of each seed; `real_only` is the value of the cell without synthetic."""
    rng = np.random.default_rng(0) if rng is None else rng
    lines = []
    for seed in range(seeds):
        for i, real in enumerate(reals):
            for j, level in enumerate(levels):
                value = table[i][j] + 0.1 * seed + noise * rng.standard_normal()
                lines.append(("diversity", real, level, f"world-{real}_{level}", seed, value))
        if real_only is not None:
            value = real_only + 0.1 * seed
            lines += [("diversity", 1.0, level, "oracle-r100", seed, value) for level in levels]
    return pd.DataFrame(lines, columns=["lever", "real_share", "level", "arm", "seed", "value"])


def shares(found):
    return found.set_index("effect")["share"].to_dict()


# ---- effects


def test_effects_of_crossed_layouts_by_hand():
    found = studies.factorial_effects(layout([[0.0, 0.3], [0.1, 0.4]]))
    # by hand: A = -+.05, B = -+.15, so the variances are .0025 and .0225, of .025 in all
    assert shares(found) == pytest.approx({"real_share": 0.1, "level": 0.9, "interaction": 0.0})
    assert found["rms"].tolist() == pytest.approx([0.05, 0.15, 0.0], abs=1e-8)
    assert set(found["n"]) == {4}
    assert (found["high"] - found["low"]).max() < 1e-9  # seeds agree

    # means: rows 0 and .2, columns 0 and .2, all .1; A = B = -+.1 and AB = +-.1: three equal parts
    found = studies.factorial_effects(layout([[0.0, 0.0], [0.0, 0.4]]))
    assert shares(found) == pytest.approx(dict.fromkeys(studies.EFFECTS, 1 / 3))
    # turned round each factor does nothing on average, and all is interplay
    assert shares(studies.factorial_effects(layout([[0.0, 0.4], [0.4, 0.0]])))["interaction"] == pytest.approx(1)

    base = layout([[0.0, 0.3], [0.1, 0.5]], noise=0.02)
    shifted = base.assign(value=base["value"] + 7 * base["seed"] ** 2)
    pd.testing.assert_frame_equal(studies.factorial_effects(base), studies.factorial_effects(shifted))

    table = np.arange(12.0).reshape(3, 4)
    found = studies.factorial_effects(layout(table, reals=(0, 0.1, 0.5), levels=(1, 2, 3, 4), noise=0.1))
    assert found["share"].sum() == pytest.approx(1)


NOISY = {"reals": (0, 0.1, 0.25, 0.5, 0.75), "levels": (1, 2, 3), "seeds": 5, "noise": 0.03}
ADDITIVE = np.add.outer(np.linspace(0, 0.06, 5), [0.0, 0.04, 0.06])


def test_noise_adds_nothing_to_the_interaction_on_average():
    rng = np.random.default_rng(1)
    found, plain = [], []
    for _ in range(300):
        data = layout(ADDITIVE, rng=rng, **NOISY)
        parts = studies._parts(studies._crossed(data))
        found.append(studies._variances(parts)[2])
        plain.append((parts.mean(axis=1)[2] ** 2).mean())  # of the means over seeds: what noise does inflate
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    assert np.mean(plain) > 10 * error  # and the inflation would have been seen


def test_bounds_of_the_shares_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    reals, levels = ADDITIVE[:, 0] - ADDITIVE[:, 0].mean(), ADDITIVE[0] - ADDITIVE[0].mean()
    truth = (levels**2).mean() / ((levels**2).mean() + (reals**2).mean())
    held = []
    for _ in range(200):
        level = studies.factorial_effects(layout(ADDITIVE, rng=rng, **NOISY)).set_index("effect").loc["level"]
        held.append(level["low"] <= truth <= level["high"])
    assert 0.88 <= np.mean(held) <= 0.995  # 95% meant; 200 draws of five seeds each


def test_what_is_not_crossed_or_missing_is_left_out_or_named():
    data = layout([[0.0, 0.3], [0.1, 0.4]])
    with_real = layout([[0.0, 0.3], [0.1, 0.4]], real_only=9.0)
    pd.testing.assert_frame_equal(studies.factorial_effects(with_real), studies.factorial_effects(data))
    data.loc[data["seed"].eq(3) & data["level"].eq(1.0), "value"] = np.nan
    assert set(studies.factorial_effects(data)["n"]) == {3}

    data = layout([[0.0, 0.3], [0.1, 0.4]])
    data.loc[data["arm"] == "world-0.5_2.0", "value"] = np.nan
    assert studies.missing_cells(data) == ["world-0.5_2.0"]
    with pytest.raises(ResultsError, match=r"cells not run: world-0\.5_2\.0"):
        studies.factorial_effects(data)
    with pytest.raises(ResultsError, match="2 seeds have all cells; run at least 3"):
        studies.factorial_effects(layout([[0.0, 0.3], [0.1, 0.4]], seeds=2))
    with pytest.raises(ResultsError, match="1 shares crossed with 2 levels"):
        studies.factorial_effects(layout([[0.0, 0.3]], reals=(0.0,)))


# ---- reading


LAYOUT_CELLS = {
    "oracle-r000_low": {"real_share": 0.0, "subtopic_power": 60.0, "label_noise": 0.0},
    "oracle-r000_high": {"real_share": 0.0, "subtopic_power": 0.0, "label_noise": 0.0},
    "oracle-r000_noise40": {"real_share": 0.0, "subtopic_power": 1.0, "label_noise": 0.4},
    "oracle-r000_noise00": {"real_share": 0.0, "subtopic_power": 1.0, "label_noise": 0.0},
    "oracle-r100": {"real_share": 1.0, "subtopic_power": 1.0, "label_noise": 0.0},
}


def layout_rows(arms, seeds=(1, 2), generations=3):
    lines = [
        (arm, seed, g, "accuracy", 0.1 * g + 0.01 * seed)
        for arm in arms
        for seed in seeds
        for g in range(generations + 1)
    ]
    return pd.DataFrame(lines, columns=["arm", "seed", "generation", "metric", "value"])


def test_diversity_is_counted_in_effective_subtopics():
    assert studies.effective_subtopics(0) == pytest.approx(6)
    assert studies.effective_subtopics(60) == pytest.approx(1, abs=1e-6)
    assert 1 < studies.effective_subtopics(2.2) < studies.effective_subtopics(1) < 6


def test_a_layout_holds_the_cells_that_move_its_own_lever_and_names_what_was_not_run():
    diversity = studies.read_factorial(layout_rows(LAYOUT_CELLS), LAYOUT_CELLS, "diversity")
    synthetic = diversity[diversity["real_share"] == 0]
    assert list(dict.fromkeys(synthetic["arm"])) == ["oracle-r000_low", "oracle-r000_noise00", "oracle-r000_high"]
    assert sorted(set(diversity["value"].round(9))) == [0.31, 0.32]  # generation 3, nothing else
    quality = studies.read_factorial(layout_rows(LAYOUT_CELLS), LAYOUT_CELLS, "quality")
    assert sorted(quality["level"].unique()) == [0.6, 1.0]
    for found, levels in ((diversity, 3), (quality, 2)):
        assert (found["arm"] == "oracle-r100").sum() == levels * 2  # one cell, at every level, for two seeds

    rows = layout_rows([arm for arm in LAYOUT_CELLS if arm != "oracle-r000_low"])
    found = studies.read_factorial(rows, LAYOUT_CELLS, "diversity")
    assert studies.missing_cells(found) == ["oracle-r000_low"]
    with pytest.raises(ResultsError, match="none of the cells of lever 'quality' has been run"):
        studies.read_factorial(layout_rows(["real"]), LAYOUT_CELLS, "quality")


def test_the_cells_of_the_repository_are_a_complete_crossing():
    cells = study_cells("ratio_or_diversity")
    for lever, levels in (("diversity", 4), ("quality", 3)):
        found = studies.read_factorial(layout_rows(cells, seeds=(1, 2, 3)), cells, lever)
        assert found["level"].nunique() == levels
        assert sorted(found["real_share"].unique()) == [0, 0.1, 0.25, 0.5, 0.75, 1]
        assert len(found[["real_share", "level"]].drop_duplicates()) == 6 * levels
        assert studies.factorial_effects(found)["share"].sum() == pytest.approx(1)


# ---- the smallest level


def test_the_smallest_level_by_margin_and_by_intervals():
    table = [[0.2, 0.55, 0.59], [0.6, 0.6, 0.6], [0.2, 0.2, 0.2]]  # real rows only: 0.6, whatever the seed
    data = layout(table, reals=(0, 0.5, 0.75), levels=(1, 2, 3), real_only=0.6)
    found = studies.smallest_diversity(data).set_index("real_share")
    assert found.loc[0.0, ["at_least", "estimate", "at_most"]].tolist() == [3, 3, 3]  # loses .4, .05, .01
    assert found.loc[0.0, ["mean", "low", "high"]].tolist() == pytest.approx([-0.01] * 3)
    assert found.loc[0.5, ["at_least", "estimate", "at_most", "mean"]].tolist() == pytest.approx([1, 1, 1, 0])
    assert found.loc[0.75].isna().all()  # nothing tried is enough
    wider = studies.smallest_diversity(data, margin=0.1).set_index("real_share")
    assert wider.loc[0.0, "estimate"] == 2
    assert studies.smallest_diversity(layout(table, reals=(0, 0.5, 0.75), levels=(1, 2, 3))).empty  # no real rows

    data = layout([[0.3, 0.56, 0.59, 0.6]], reals=(0.0,), levels=(1, 2, 3, 4), real_only=0.6)
    spread = data["level"].map({1: 0.01, 2: 0.02, 3: 0.01, 4: 0.001}) * (data["seed"] - 1.5)  # half width 2.05 of it
    data["value"] += spread.where(data["real_share"] == 0, 0)
    (row,) = studies.smallest_diversity(data).to_dict("records")  # high of level 2 is 0.001, low of level 3 is -0.03
    assert (row["at_least"], row["estimate"], row["at_most"]) == (2, 3, 4)


# ---- which measure moves first


def falling(**of_metric):
    lines = [
        ("recursive-replace", seed, g, metric, value * (1 + 0.1 * seed))
        for metric, values in of_metric.items()
        for seed in (1, 2, 3)
        for g, value in enumerate(values)
    ]
    return pd.DataFrame(lines, columns=["arm", "seed", "generation", "metric", "value"])


def test_multiples_of_the_first_generation_and_their_first_fall():
    rows = falling(accuracy=[0.9, 0.8, 0.6, 0.4], lesson_distinct_2=[np.nan, 0.2, 0.2, 0.19])
    found = studies.relative_to_first(rows, "recursive-replace", ["lesson_distinct_2", "accuracy", "lm_loss"])
    assert set(found["metric"]) == {"lesson_distinct_2", "accuracy"}  # the third was not taken
    of = found[found["metric"] == "accuracy"].set_index("generation")["mean"].to_dict()
    assert of == pytest.approx({1: 1.0, 2: 0.75, 3: 0.5})  # the factor of a seed cancels
    zero = studies.relative_to_first(falling(accuracy=[0.0, 0.0, 0.5]), "recursive-replace", ["accuracy"])
    assert zero.empty  # a first value of zero has no multiple

    lines = [
        ("late", 1, 1.0, 1.0, 1.0), ("late", 2, 0.9, 0.8, 0.96), ("late", 3, 0.8, 0.7, 0.9),
        ("early", 1, 1.0, 1.0, 1.0), ("early", 2, 0.7, 0.6, 0.8), ("early", 3, 0.6, 0.5, 0.7),
        ("never", 1, 1.0, 1.0, 1.0), ("never", 2, 1.1, 1.0, 1.2), ("never", 3, 1.0, 0.9, 1.1),
    ]  # fmt: skip
    relative = pd.DataFrame(lines, columns=["metric", "generation", "mean", "low", "high"]).assign(n=5)
    found = studies.first_fall(relative)
    assert found["metric"].tolist() == ["early", "late", "never"]
    assert found["first_fall"].tolist()[:2] == [2, 3] and np.isnan(found["first_fall"][2])
    assert found["end"].tolist() == [0.6, 0.8, 1.0]
