"""The rule of the claims ledger: what decides a part, what cannot be decided, and what a claim of several needs."""

import math

import pandas as pd
import pytest
from deciding import decide
from scipy import stats

from symbiosis.analysis import verdicts
from symbiosis.analysis.statistics import mean_interval
from symbiosis.analysis.tables import SeedValues
from symbiosis.analysis.verdicts import CONTRADICTED, EQUIVALENT, IMPRECISE, NOT_RUN, SUPPORTED, UNDECIDED, Part


def hand_rows(**values):
    """arm=[value of seed 0, 1, ...] at generation 0 of a study, as read rows."""
    cells = [(arm, seed, value) for arm, column in values.items() for seed, value in enumerate(column)]
    return pd.DataFrame(cells, columns=["arm", "seed", "value"]).assign(generation=0, metric="accuracy")


def level(low=0.0, high=math.inf):
    return Part("real", lambda values: values("real"), low, high)


LEAD = Part("Real data - Static synthetic", lambda values: values("real") - values("static"))


def test_the_interval_and_p_of_a_part_by_hand_against_the_nearest_end():
    found = decide(level(), hand_rows(real=[0.1, 0.2, 0.3]))
    half = 4.302653 * 0.1 / math.sqrt(3)  # t(.975, 2)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half), abs=1e-6)
    assert found.p == pytest.approx(1 - math.sqrt(12 / 14))  # t = 2 sqrt 3 with two degrees of freedom
    assert found.verdict == UNDECIDED and found.low < 0

    values = [0.09, 0.10, 0.11]
    for low, high, edge in ((0.05, math.inf, 0.05), (0.01, 0.13, 0.13), (-0.02, 0.02, 0.02)):
        found = decide(level(low, high), hand_rows(real=values))
        assert found.p == pytest.approx(stats.ttest_1samp(values, edge).pvalue)


def test_the_whole_interval_has_to_lie_on_one_side():
    regions = {
        (0.0, math.inf): SUPPORTED,
        (-math.inf, 0.0): CONTRADICTED,
        (0.10, math.inf): UNDECIDED,  # the interval is .075 to .125
        (0.05, math.inf): SUPPORTED,
        (0.13, math.inf): CONTRADICTED,  # above 0, but by less than claimed
        (0.07, 0.13): SUPPORTED,
        (0.09, 0.13): UNDECIDED,
        (-0.02, 0.02): CONTRADICTED,
    }
    for region, says in regions.items():
        found = decide(level(*region), hand_rows(real=[0.09, 0.10, 0.11]))
        assert (found.low, found.high) == pytest.approx((0.07516, 0.12484), abs=1e-5)
        assert (found.verdict, found.p < 0.05) == (says, says != UNDECIDED)  # the test and the interval say one thing


def test_two_seeds_decide_nothing_and_are_shown_one_by_one():
    rows = hand_rows(real=[0.9, 0.8], static=[0.5, 0.45])
    found = decide(LEAD, rows)
    assert found.verdict == UNDECIDED and math.isnan(found.p)
    assert verdicts.in_words(found) == "Real data - Static synthetic: +0.400 (seed 0), +0.350 (seed 1)"
    third = hand_rows(real=[0.9, 0.8, 0.86], static=[0.5, 0.45, 0.5])  # one seed more, and it is decided
    assert decide(LEAD, third).verdict == SUPPORTED


def test_what_is_missing_is_named():
    found = decide(LEAD, hand_rows(static=[0.5, 0.6, 0.5]))
    assert found.verdict == UNDECIDED
    assert verdicts.in_words(found) == "Real data - Static synthetic: not run: Real data"
    unmeasured = Part("teacher", lambda values: values("pseudo_label", 0, "generator_accuracy"))
    found = decide(unmeasured, hand_rows(pseudo_label=[0.5, 0.6, 0.7]))
    assert verdicts.in_words(found).endswith("not run: Pseudo-labelled pool (no generator_accuracy)")
    nothing = hand_rows().astype({"generation": int})  # a study without any run
    assert decide(LEAD, nothing).missing == ("Real data", "Static synthetic")
    apart = pd.concat([hand_rows(real=[0.9]), hand_rows(static=[0.5]).assign(seed=7)])
    assert verdicts.in_words(decide(LEAD, apart)).endswith(": no seed has all of it")


def test_a_seed_counts_where_all_was_measured():
    rows = hand_rows(real=[0.9, 0.8, 0.7, 0.9], static=[0.5, math.nan, 0.5])
    found = decide(LEAD, rows)
    assert found.values.to_dict() == pytest.approx({0: 0.4, 2: 0.2}) and found.estimate == pytest.approx(0.3)


def test_a_family_is_corrected_and_its_intervals_say_what_holm_says():
    rows = hand_rows(real=[0.09, 0.10, 0.11], static=[0.02, 0.04, 0.06], other=[0.3, 0.3, 0.33])
    parts = [level(), *(Part(arm, lambda values, arm=arm: values(arm)) for arm in ("static", "other", "missing"))]
    alone = [decide(part, rows) for part in parts]
    assert [one.verdict for one in alone] == [SUPPORTED, UNDECIDED, SUPPORTED, UNDECIDED]
    family = verdicts.judge([verdicts.measure(part, SeedValues(rows)) for part in parts])
    p = [one.p for one in alone]  # .0033, .074, .0010: times 2, 1, 3
    assert [one.p_holm for one in family[:3]] == pytest.approx([2 * p[0], p[1], 3 * p[2]])
    assert [one.verdict for one in family] == [SUPPORTED, UNDECIDED, SUPPORTED, UNDECIDED]
    assert family[0].corrected == pytest.approx(mean_interval([0.09, 0.10, 0.11], 0.025)[1:])  # the second of three
    assert family[1].corrected == (family[1].low, family[1].high) and [one.why for one in family[1::2]] == [
        IMPRECISE,
        NOT_RUN,
    ]


def test_undecided_is_equivalent_imprecise_or_not_run():
    small = Part("real", lambda values: values("real"), margin=0.02)
    assert decide(small, hand_rows(real=[0.001, 0.0, -0.002])).why == EQUIVALENT
    assert decide(small, hand_rows(real=[-0.02, 0.03, 0.01])).why == IMPRECISE
    assert decide(small, hand_rows(real=[0.0, 0.001])).why == IMPRECISE  # two seeds
    assert decide(small, hand_rows(static=[0.0])).why == NOT_RUN
    assert decide(level(), hand_rows(real=[0.001, 0.0, -0.002])).why == IMPRECISE  # no margin was said
    found = verdicts.measure(small, SeedValues(hand_rows(real=[0.1, 0.1, 0.12])))
    assert verdicts.judge([found], seeds=3)[0].verdict == SUPPORTED
    early = verdicts.judge([found, verdicts.measure(small, SeedValues(hand_rows(real=[0.1, 0.1, 0.12, 0.1])))], seeds=4)
    assert (early[0].verdict, early[0].why) == (UNDECIDED, NOT_RUN) and early[1].p_holm == early[1].p  # nor counted
    assert verdicts.reason([early[0], decide(small, hand_rows(real=[0.0, 0.001]))]) == NOT_RUN
    assert verdicts.reason([early[1]]) == ""


def test_a_claim_needs_all_parts_and_falls_with_one():
    assert verdicts.combine([SUPPORTED, SUPPORTED]) == SUPPORTED
    assert verdicts.combine([SUPPORTED, UNDECIDED]) == UNDECIDED
    assert verdicts.combine([UNDECIDED, CONTRADICTED, SUPPORTED]) == CONTRADICTED
