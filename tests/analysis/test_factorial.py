"""Two crossed factors with seeds as blocks: layouts done by hand, noise that must not count, what is missing."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from symbiosis.analysis import factorial
from symbiosis.params import study_cells
from symbiosis.store.results import ResultsError

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


def test_an_additive_layout_has_no_interaction():
    found = factorial.effects(layout([[0.0, 0.3], [0.1, 0.4]]))
    # by hand: A = -+.05, B = -+.15, so the variances are .0025 and .0225, of .025 in all
    assert shares(found) == pytest.approx({"real_share": 0.1, "level": 0.9, "interaction": 0.0})
    assert found["rms"].tolist() == pytest.approx([0.05, 0.15, 0.0], abs=1e-8)
    assert found["df"].tolist() == [1, 1, 1] and set(found["n"]) == {4}


def test_a_crossed_layout_has_the_shares_done_by_hand():
    # means: rows 0 and .2, columns 0 and .2, all .1; A = B = -+.1 and AB = +-.1: three equal parts
    found = factorial.effects(layout([[0.0, 0.0], [0.0, 0.4]]))
    assert shares(found) == pytest.approx(dict.fromkeys(factorial.EFFECTS, 1 / 3))
    # turned round each factor does nothing on average, and all is interplay
    assert shares(factorial.effects(layout([[0.0, 0.4], [0.4, 0.0]])))["interaction"] == pytest.approx(1)


def test_seeds_that_agree_have_bounds_of_no_width_and_no_p():
    found = factorial.effects(layout([[0.0, 0.3], [0.1, 0.4]]))
    assert (found["high"] - found["low"]).max() < 1e-9
    assert found["p"].isna().all()


def test_the_shift_of_a_seed_changes_nothing():
    base = layout([[0.0, 0.3], [0.1, 0.5]], noise=0.02)
    shifted = base.assign(value=base["value"] + 7 * base["seed"] ** 2)
    pd.testing.assert_frame_equal(factorial.effects(base), factorial.effects(shifted))


def test_three_shares_by_four_levels_have_the_right_degrees_of_freedom():
    table = np.arange(12.0).reshape(3, 4)
    found = factorial.effects(layout(table, reals=(0, 0.1, 0.5), levels=(1, 2, 3, 4), noise=0.1))
    assert found["df"].tolist() == [2, 3, 6]
    assert found["share"].sum() == pytest.approx(1)


def test_f_is_that_of_a_layout_with_seeds_as_blocks():
    # For two levels the F of a factor is the squared paired t of its contrast.
    data = layout([[0.0, 0.3], [0.1, 0.5]], seeds=6, noise=0.1)
    found = factorial.effects(data).set_index("effect")
    x = data.pivot(index="seed", columns=["real_share", "level"], values="value").to_numpy().reshape(-1, 2, 2)
    contrasts = {
        "real_share": x[:, 1].mean(axis=1) - x[:, 0].mean(axis=1),
        "level": x[:, :, 1].mean(axis=1) - x[:, :, 0].mean(axis=1),
        "interaction": x[:, 0, 0] - x[:, 0, 1] - x[:, 1, 0] + x[:, 1, 1],
    }
    for effect, contrast in contrasts.items():
        t = stats.ttest_1samp(contrast, 0)
        assert found.loc[effect, "F"] == pytest.approx(t.statistic**2)
        assert found.loc[effect, "p"] == pytest.approx(t.pvalue)


NOISY = {"reals": (0, 0.1, 0.25, 0.5, 0.75), "levels": (1, 2, 3), "seeds": 5, "noise": 0.03}
ADDITIVE = np.add.outer(np.linspace(0, 0.06, 5), [0.0, 0.04, 0.06])


def test_noise_adds_nothing_to_the_interaction_on_average():
    rng = np.random.default_rng(1)
    found, plain = [], []
    for _ in range(300):
        data = layout(ADDITIVE, rng=rng, **NOISY)
        parts = factorial._parts(factorial._crossed(data))
        found.append(factorial._variances(parts)[2])
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
        level = factorial.effects(layout(ADDITIVE, rng=rng, **NOISY)).set_index("effect").loc["level"]
        held.append(level["low"] <= truth <= level["high"])
    assert 0.88 <= np.mean(held) <= 0.995  # 95% meant; 200 draws of five seeds each


def test_cells_of_real_rows_only_are_not_crossed():
    with_real = layout([[0.0, 0.3], [0.1, 0.4]], real_only=9.0)
    pd.testing.assert_frame_equal(factorial.effects(with_real), factorial.effects(layout([[0.0, 0.3], [0.1, 0.4]])))


def test_a_seed_counts_where_all_cells_have_it():
    data = layout([[0.0, 0.3], [0.1, 0.4]])
    data.loc[data["seed"].eq(3) & data["level"].eq(1.0), "value"] = np.nan
    assert set(factorial.effects(data)["n"]) == {3}


def test_missing_cells_and_seeds_are_named():
    data = layout([[0.0, 0.3], [0.1, 0.4]])
    data.loc[data["arm"] == "world-0.5_2.0", "value"] = np.nan
    assert factorial.missing_cells(data) == ["world-0.5_2.0"]
    with pytest.raises(ResultsError, match=r"cells not run: world-0\.5_2\.0"):
        factorial.effects(data)
    with pytest.raises(ValueError, match="2 seeds have all cells; run at least 3"):
        factorial.effects(layout([[0.0, 0.3], [0.1, 0.4]], seeds=2))
    with pytest.raises(ValueError, match="1 shares crossed with 2 levels"):
        factorial.effects(layout([[0.0, 0.3]], reals=(0.0,)))


# ---- reading


CELLS = {
    "oracle-r000_low": {"real_share": 0.0, "subtopic_power": 60.0, "label_noise": 0.0},
    "oracle-r000_high": {"real_share": 0.0, "subtopic_power": 0.0, "label_noise": 0.0},
    "oracle-r000_noise40": {"real_share": 0.0, "subtopic_power": 1.0, "label_noise": 0.4},
    "oracle-r000_noise00": {"real_share": 0.0, "subtopic_power": 1.0, "label_noise": 0.0},
    "oracle-r100": {"real_share": 1.0, "subtopic_power": 1.0, "label_noise": 0.0},
}


def rows_of(arms, seeds=(1, 2), generations=3):
    lines = [
        (arm, seed, g, "accuracy", 0.1 * g + 0.01 * seed)
        for arm in arms
        for seed in seeds
        for g in range(generations + 1)
    ]
    return pd.DataFrame(lines, columns=["arm", "seed", "generation", "metric", "value"])


def test_diversity_is_counted_in_effective_subtopics():
    assert factorial.effective_subtopics(0) == pytest.approx(6)
    assert factorial.effective_subtopics(60) == pytest.approx(1, abs=1e-6)
    assert 1 < factorial.effective_subtopics(2.2) < factorial.effective_subtopics(1) < 6


def test_a_layout_holds_the_cells_that_move_its_own_lever():
    diversity = factorial.read_factorial(rows_of(CELLS), CELLS, "diversity")
    synthetic = diversity[diversity["real_share"] == 0]
    assert list(dict.fromkeys(synthetic["arm"])) == ["oracle-r000_low", "oracle-r000_noise00", "oracle-r000_high"]
    assert sorted(set(diversity["value"].round(9))) == [0.31, 0.32]  # generation 3, nothing else
    quality = factorial.read_factorial(rows_of(CELLS), CELLS, "quality")
    assert sorted(quality["level"].unique()) == [0.6, 1.0]
    for found, levels in ((diversity, 3), (quality, 2)):
        assert (found["arm"] == "oracle-r100").sum() == levels * 2  # one cell, at every level, for two seeds


def test_cells_that_were_not_run_stay_in_the_layout_and_are_named():
    rows = rows_of([arm for arm in CELLS if arm != "oracle-r000_low"])
    found = factorial.read_factorial(rows, CELLS, "diversity")
    assert factorial.missing_cells(found) == ["oracle-r000_low"]
    with pytest.raises(ResultsError, match="none of the cells of lever 'quality' has been run"):
        factorial.read_factorial(rows_of(["real"]), CELLS, "quality")
    with pytest.raises(ValueError, match="'length' is not one of diversity, quality"):
        factorial.read_factorial(rows, CELLS, "length")


def test_the_cells_of_the_repository_are_a_complete_crossing():
    cells = study_cells("ratio_or_diversity")
    for lever, levels in (("diversity", 4), ("quality", 3)):
        found = factorial.read_factorial(rows_of(cells, seeds=(1, 2, 3)), cells, lever)
        assert found["level"].nunique() == levels
        assert sorted(found["real_share"].unique()) == [0, 0.1, 0.25, 0.5, 0.75, 1]
        assert len(factorial.cell_means(found)) == 6 * levels
        assert factorial.effects(found)["df"].tolist() == [4, levels - 1, 4 * (levels - 1)]


# ---- losses and the smallest level


def test_losses_are_taken_against_the_same_seed_of_real_rows_only():
    found = factorial.losses(layout([[0.2, 0.55], [0.4, 0.6]], real_only=0.6)).set_index(["real_share", "level"])
    assert found["mean"].to_dict() == pytest.approx({(0, 1): -0.4, (0, 2): -0.05, (0.5, 1): -0.2, (0.5, 2): 0.0})
    assert factorial.losses(layout([[0.2, 0.55], [0.4, 0.6]])).empty  # nothing to hold them against


def test_the_smallest_level_is_bracketed_by_what_the_intervals_show():
    lines = [  # real_share, level, mean, low, high
        (0.0, 1, -0.30, -0.35, -0.25),  # loses
        (0.0, 2, -0.04, -0.08, 0.00),  # may be enough
        (0.0, 3, -0.01, -0.04, 0.02),  # is enough on average
        (0.0, 4, 0.00, -0.01, 0.01),  # shown to be enough
        (0.5, 1, 0.00, -0.01, 0.01),
        (0.75, 1, -0.30, -0.35, -0.25),  # nothing tried is enough
    ]
    table = pd.DataFrame(lines, columns=["real_share", "level", "mean", "low", "high"])
    found = factorial.smallest_diversity(table, margin=0.02).set_index("real_share")
    assert found.loc[0.0, ["at_least", "estimate", "at_most", "mean"]].tolist() == [2, 3, 4, -0.01]
    assert found.loc[0.5, ["at_least", "estimate", "at_most"]].tolist() == [1, 1, 1]
    assert found.loc[0.75].isna().all()
    wider = factorial.smallest_diversity(table, margin=0.1).set_index("real_share")
    assert wider.loc[0.0, ["at_least", "estimate", "at_most"]].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match=r"margin: -0\.1 is below 0"):
        factorial.smallest_diversity(table, margin=-0.1)


# ---- which measure moves first


def falling(**of_metric):
    lines = [
        ("recursive-replace", seed, g, metric, value * (1 + 0.1 * seed))
        for metric, values in of_metric.items()
        for seed in (1, 2, 3)
        for g, value in enumerate(values)
    ]
    return pd.DataFrame(lines, columns=["arm", "seed", "generation", "metric", "value"])


def test_measures_are_multiples_of_their_own_first_generation():
    rows = falling(accuracy=[0.9, 0.8, 0.6, 0.4], lesson_distinct_2=[np.nan, 0.2, 0.2, 0.19])
    found = factorial.relative_to_first(rows, "recursive-replace", ["lesson_distinct_2", "accuracy", "lm_loss"])
    assert list(dict.fromkeys(found["metric"])) == ["lesson_distinct_2", "accuracy"]  # the third was not taken
    of = found[found["metric"] == "accuracy"].set_index("generation")["mean"].to_dict()
    assert of == pytest.approx({1: 1.0, 2: 0.75, 3: 0.5})  # the factor of a seed cancels


def test_a_first_value_of_zero_has_no_multiple():
    found = factorial.relative_to_first(falling(accuracy=[0.0, 0.0, 0.5]), "recursive-replace", ["accuracy"])
    assert found["mean"].isna().all() and set(found["n"]) == {0}


def test_the_first_fall_needs_the_whole_interval():
    lines = [
        ("late", 1, 1.0, 1.0, 1.0), ("late", 2, 0.9, 0.8, 0.96), ("late", 3, 0.8, 0.7, 0.9),
        ("early", 1, 1.0, 1.0, 1.0), ("early", 2, 0.7, 0.6, 0.8), ("early", 3, 0.6, 0.5, 0.7),
        ("never", 1, 1.0, 1.0, 1.0), ("never", 2, 1.1, 1.0, 1.2), ("never", 3, 1.0, 0.9, 1.1),
    ]  # fmt: skip
    relative = pd.DataFrame(lines, columns=["metric", "generation", "mean", "low", "high"]).assign(n=5)
    found = factorial.first_fall(relative, fallen=0.05)
    assert found["metric"].tolist() == ["early", "late", "never"]
    assert found["first_fall"].tolist()[:2] == [2, 3] and np.isnan(found["first_fall"][2])
    assert found["end"].tolist() == [0.6, 0.8, 1.0]
    with pytest.raises(ValueError, match="fallen: 1 is not in"):
        factorial.first_fall(relative, fallen=1)
