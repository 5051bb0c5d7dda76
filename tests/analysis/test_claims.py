"""The claims ledger: what each claim takes from the rows, what decides it, and the file people read."""

import math

import numpy as np
import pandas as pd
import pytest
from deciding import decide

from symbiosis import small_studies
from symbiosis.analysis import claims, verdicts
from symbiosis.analysis.tables import PUBLISHED_ACCURACY, SeedValues
from symbiosis.analysis.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED
from symbiosis.store import results
from symbiosis.store.results import ResultsError

ACCURACY = {  # arm: accuracy of generations 0 to 3, before noise
    ("real", "plain"): (0.25, 0.70, 0.86, 0.91),
    ("static", "plain"): (0.25, 0.62, 0.66, 0.66),
    ("recursive", "plain"): (0.25, 0.25, 0.25, 0.25),
    ("recursive", "warm"): (0.93, 0.88, 0.84, 0.80),
    ("pseudo_label", "plain"): (0.25, 0.68, 0.79, 0.83),
    ("symbiosis", "plain"): (0.25, 0.62, 0.71, 0.76),
    ("symbiosis", "random"): (0.25, 0.62, 0.71, 0.75),
}
LOSS = {"static": (2.1, 0.4, 0.2), "symbiosis": (2.1, 0.4, 0.9)}  # label loss in training, generations 1 to 3


def rows_of(values, metric="accuracy", arms_noise=0.005, seeds=range(5), first=0, study="main", scale="miniature"):
    """{(method, variant): a value per generation} as rows of results.csv, with noise of the seed and arm."""
    rows = []
    for i, ((method, variant), column) in enumerate(values.items()):
        for seed in seeds:
            noise = arms_noise * np.random.default_rng([seed, i]).normal(size=len(column))
            run_id = f"{scale}/{study}/{results.arm_of(method, variant)}-s{seed}@00000000"
            head = {"study": study, "method": method, "variant": variant, "scale": scale, "seed": seed}
            for g, value in enumerate(column + noise, start=first):
                rows.append(head | {"generation": g, "metric": metric, "value": value, "run_id": run_id})
    return pd.DataFrame(rows).assign(unit="share", n=1000)[list(results.COLUMNS)]


def write_results(folder, *tables):
    rows = pd.concat(tables, ignore_index=True).sort_values(results.SORT_BY)
    (folder / "results.csv").write_bytes(results.csv_bytes(rows, results.COLUMNS))
    return folder


def by_claim(reports_dir, scale="miniature"):
    found = claims.ledger(reports_dir)
    return found[found["scale"] == scale].set_index("claim")


# ---- what each formula takes


def study_cells(**changes):
    tables = [rows_of(ACCURACY | changes.get("accuracy", {}), arms_noise=0)]
    loss = {(method, "plain"): column for method, column in LOSS.items()}
    tables.append(rows_of(loss, "train_label_loss", arms_noise=0, first=1))
    return SeedValues(results.with_arm(pd.concat(tables)))


PARTS = [
    ({"lead": ["symbiosis", "static"]}, 0.76 - 0.66, "Symbiosis - Static synthetic"),
    ({"trails": ["static", "real"]}, 0.66 - 0.91, "Static synthetic - Real data"),
    ({"lead": ["symbiosis", "static", "real"], "name": "x"}, 0.76 - (0.66 + 0.91) / 2, "x"),
    ({"lead": ["symbiosis"], "above": 0.25}, 0.76, "Symbiosis"),
    ({"rises": "symbiosis", "since": 1}, 0.76 - 0.62, "Symbiosis, last - generation 1"),
    ({"falls": "static", "since": -2}, 0.66 - 0.66, "Static synthetic, last - the one before"),
    ({"stays": "symbiosis", "since": 2, "within": 0.02}, 0.76 - 0.71, "Symbiosis, last - generation 2"),
    ({"lead": ["symbiosis"], "of": "largest_rise", "metric": "train_label_loss", "name": "x"}, 0.9 - 0.4, "x"),
    ({"lead": ["symbiosis", "static"], "of": "largest_rise", "metric": "train_label_loss", "name": "x"},
     0.5 - (0.2 - 0.4), "x"),  # symbiosis: -1.7, then +.5; static: -1.7, then -.2
    ({"outgrows": ["symbiosis", "real"], "since": 1}, (0.76 - 0.62) - (0.91 - 0.70),
     "growth since generation 1, Symbiosis - Real data"),
    ({"gains": [["symbiosis", "static"], ["real", "static"]], "less": [["real", "symbiosis"]], "name": "x"},
     (0.10 + 0.25) / 2 - 0.15, "x"),
]  # fmt: skip


def test_parts_by_hand():
    for line, value, name in PARTS:
        seed_values, part = study_cells(), claims.read_part(line)
        assert part.formula(seed_values).tolist() == pytest.approx([value] * 5) and not seed_values.missing
        assert part.name == name


def test_a_verb_and_its_options_make_the_region():
    def region(line):
        part = claims.read_part(line)
        return part.low, part.high

    assert region({"lead": ["a", "b"]}) == region({"rises": "a", "since": 0}) == (0, math.inf)
    assert region({"trails": ["a", "b"]}) == region({"tail_loses": "a", "measure": "density"}) == (-math.inf, 0)
    assert region({"lead": ["a", "b"], "above": -0.02}) == (-0.02, math.inf)
    assert region({"ties": ["a", "b"], "within": 0.02}) == region({"stays": "a", "since": 1, "within": 0.02})
    assert region({"ties": ["a", "b"], "within": 0.02}) == (-0.02, 0.02)


def test_early_falls_and_a_students_teacher_by_hand():
    values = {"accuracy": (0.9, 0.8, 0.72, 0.72, 0.72), "lesson_tail_coverage": (0.0, 0.5, 0.3, 0.2, 0.1)}
    tables = [rows_of({("recursive", "replace"): column}, metric, 0) for metric, column in values.items()]
    part = claims.read_part({"outlasts": "recursive-replace", "metric": "accuracy", "than": "lesson_tail_coverage"})
    found = part.formula(SeedValues(results.with_arm(pd.concat(tables))))
    assert found.tolist() == pytest.approx([0.9 - 0.4] * 5)

    teacher = rows_of({("pseudo_label", "plain"): (0.80, 0.99)}, "generator_accuracy", arms_noise=0)
    rows = results.with_arm(pd.concat([rows_of(ACCURACY, arms_noise=0), teacher]))
    part = claims.read_part({"beats_teacher": "pseudo_label"})
    assert part.formula(SeedValues(rows)).tolist() == pytest.approx([0.83 - 0.80] * 5)


def test_words_in_braces_make_a_claim_or_a_part_of_every_line():
    by_slug = {claim.slug: claim for claim in claims.CLAIMS}
    assert len(by_slug) == len(claims.CLAIMS)
    assert len([slug for slug in by_slug if slug.startswith("regime-")]) == 11
    claim = by_slug["interaction-agree-private"]
    assert [part.name[:27] for part in claim.parts] == [f"K = {k}, similarity_private b" for k in (2, 3, 4)]
    assert claim.source == "this project" and "private prompts" in claim.statement
    texts = [text for c in claims.CLAIMS for text in (c.slug, c.statement, c.test, *(part.name for part in c.parts))]
    assert not any("{" in text for text in texts)


# ---- the ledger


def test_verdicts_follow_the_numbers(tmp_path):
    found = by_claim(write_results(tmp_path, rows_of(ACCURACY)))
    says = found["verdict"].to_dict()
    assert (
        says["below-real"] == says["beats-static"] == says["recursive-warm-drop"] == says["above-guessing"] == SUPPORTED
    )
    assert says["approaches-real"] == says["text-needed"] == CONTRADICTED  # .76 against .785 and .83
    assert says["recursive-drop"] == UNDECIDED
    assert (
        found.loc["beats-static", "estimate"] == pytest.approx(0.10, abs=0.01) and found.loc["beats-static", "n"] == 5
    )


def test_the_numbers_of_a_claim_are_those_of_the_part_that_decides(tmp_path):
    write_results(tmp_path, rows_of(ACCURACY))
    rows = results.read_results(tmp_path, "miniature")
    sustained = next(claim for claim in claims.CLAIMS if claim.slug == "only-sustained").parts
    _, static, _, pseudo = (decide(part, rows) for part in sustained)
    assert static.verdict == pseudo.verdict == CONTRADICTED
    row = by_claim(tmp_path).loc["only-sustained"]
    assert row["p"] == min(static.p, pseudo.p) < max(static.p, pseudo.p)  # the strongest against it
    fewer = {(method, "plain"): (0.25, 0.6, 0.58, 0.55) for method in ("static", "recursive", "pseudo_label")}
    write_results(tmp_path, rows_of(ACCURACY | fewer))
    rows = results.read_results(tmp_path, "miniature")
    row = by_claim(tmp_path).loc["only-sustained"]
    assert row["p"] == max(decide(part, rows).p for part in sustained)  # the weakest for it


def test_only_means_that_no_rival_grows(tmp_path):
    grows = write_results(tmp_path, rows_of(ACCURACY))
    row = by_claim(grows).loc["only-sustained"]
    assert row["verdict"] == CONTRADICTED and "Pseudo-labelled pool, last - generation 1: +0.1" in row["numbers"]
    shrink = {(method, "plain"): (0.25, 0.6, 0.58, 0.55) for method in ("static", "recursive", "pseudo_label")}
    write_results(tmp_path, rows_of(ACCURACY | shrink))
    assert by_claim(tmp_path).loc["only-sustained", "verdict"] == SUPPORTED
    write_results(tmp_path, rows_of(ACCURACY | shrink | {("recursive", "plain"): (0.25, 0.25, 0.25, 0.25)}))
    assert by_claim(tmp_path).loc["only-sustained", "verdict"] == UNDECIDED  # a flat rival: not shown either way
    del shrink["recursive", "plain"]
    rows = rows_of(ACCURACY | shrink)
    write_results(tmp_path, rows[(rows["method"] != "recursive")])
    row = by_claim(tmp_path).loc["only-sustained"]
    assert row["verdict"] == UNDECIDED and "not run: Recursive" in row["numbers"]


def test_what_the_numbers_cannot_show_is_undecided_and_says_why(tmp_path):
    loss = {(method, "plain"): column for method, column in LOSS.items()}
    no_rise = rows_of(loss | {("symbiosis", "plain"): (2.1, 1.4, 0.9)}, "train_label_loss", first=1)
    write_results(tmp_path, rows_of(ACCURACY), no_rise)
    claim = next(claim for claim in claims.CLAIMS if claim.slug == "loss-spikes")
    rows = results.read_results(tmp_path, "miniature")
    assert decide(claim.parts[0], rows).verdict == CONTRADICTED  # by means, which hide a spike
    row = by_claim(tmp_path).loc["loss-spikes"]
    assert row["verdict"] == UNDECIDED and row["numbers"].endswith(f"; not decidable: {claim.undecidable}")


def test_holm_covers_every_part_of_a_family_in_one_scale_and_no_other(tmp_path):
    other = rows_of(ACCURACY, scale="agnews_small", arms_noise=0.02)
    regime = rows_of({("symbiosis", "best"): (0.25, 0.9), ("static", "plain"): (0.25, 0.7)}, study=claims.REGIME_STUDY)
    write_results(tmp_path, rows_of(ACCURACY, arms_noise=0.02), other, regime)
    studies = {"main": results.read_results(tmp_path, "miniature")}
    parts = [decide(part, studies.get(c.study, studies["main"][:0])) for c in claims.CLAIMS for part in c.parts]
    tested = sorted(found.p for found in parts if not math.isnan(found.p))
    assert len(tested) == 15  # eleven claims of one part and one of four; the others lack their arms
    found = by_claim(tmp_path)
    exploratory = found[found["family"] == verdicts.EXPLORATORY]
    smallest = exploratory["p"].idxmin()
    assert found.loc[smallest, "p"] == tested[0] and found.loc[smallest, "p_holm"] == pytest.approx(15 * tested[0])
    assert (exploratory["p_holm"].dropna() >= exploratory["p"].dropna()).all()
    primary = found.loc["regime-static"]  # five of the ten seeds that were fixed: not yet
    assert (primary["family"], primary["evidence"], primary["why"]) == ("primary", "exploratory", verdicts.NOT_RUN)
    ten = rows_of(
        {("symbiosis", "best"): (0.25, 0.9), ("static", "plain"): (0.25, 0.7)},
        study=claims.REGIME_STUDY,
        seeds=range(10),
    )
    primary = by_claim(write_results(tmp_path, ten)).loc["regime-static"]
    assert (primary["evidence"], primary["verdict"]) == (claims.CONFIRMATORY, SUPPORTED)
    assert primary["p_holm"] == primary["p"]  # the other five rivals were not run


def test_a_claim_is_decided_by_its_corrected_interval(tmp_path):
    found = by_claim(write_results(tmp_path, rows_of(ACCURACY, arms_noise=0.03)))
    tested = found.dropna(subset="p_holm")
    assert (tested["corrected_low"] < tested["low"]).all() and (tested["high"] < tested["corrected_high"]).all()
    assert ((tested["p_holm"] < 0.05) == (tested["verdict"] != UNDECIDED)).all()
    lost = (tested["p"] < 0.05) & (tested["verdict"] == UNDECIDED)
    assert lost.any() and set(tested.loc[lost, "why"]) == {verdicts.IMPRECISE}


# ---- claims of new studies, registered in ledger.yaml

LINE = {"family": "teach", "study": "teach", "arm": "symbiosis-teach", "margin": 0.02, "says": "Teaching pays."}


def teach_rows(first=0.80, seeds=20):
    arms = {("symbiosis", "teach"): first, ("symbiosis", "frozen"): 0.75, ("symbiosis", "rows"): 0.799}
    return rows_of({arm: np.array([value]) for arm, value in arms.items()}, seeds=range(seeds), study="teach")


def registered(monkeypatch, folder, rows, **lines):
    """The ledger's rows of claims registered as `lines`, in a family of 20 seeds."""
    monkeypatch.setitem(claims.FAMILIES, "teach", {"seeds": 20, "says": "teach"})
    monkeypatch.setattr(claims, "CLAIMS", tuple(claims.registered_claim(*line) for line in lines.items()))
    return by_claim(write_results(folder, rows))


def test_a_registered_line_is_a_claim_of_its_family(monkeypatch, tmp_path):
    lines = {
        "beats-frozen": LINE | {"beats": ["symbiosis-frozen"]},
        "beats-each": LINE | {"beats": ["symbiosis-frozen", "symbiosis-rows"]},
        "level": LINE | {"level_with": ["symbiosis-rows"]},
        "elsewhere": LINE | {"beats": ["symbiosis-frozen"], "scale": "agnews_small"},
    }
    found = registered(monkeypatch, tmp_path, teach_rows(), **lines)
    assert list(found.index) == ["beats-frozen", "beats-each", "level"]
    assert found["verdict"].tolist() == [
        SUPPORTED,
        UNDECIDED,
        SUPPORTED,
    ]  # one point over the rows is within the margin
    assert found["evidence"].eq(claims.CONFIRMATORY).all() and found["n"].eq(20).all()
    assert found.loc["beats-each", "why"] == verdicts.EQUIVALENT and found.loc["beats-each", "p_equivalence"] < 0.001
    assert found.loc["level", "test"].endswith("final accuracy, seed by seed, lies within 0.02 on either side of 0.")
    early = registered(monkeypatch, tmp_path, teach_rows(seeds=12), **lines)
    assert set(early["why"]) == {verdicts.NOT_RUN} and "n = 12 (fewer than were fixed)" in early["numbers"].iloc[0]
    late = registered(monkeypatch, tmp_path, teach_rows(seeds=21), **lines)
    assert late["evidence"].eq(verdicts.EXPLORATORY).all()  # seeds were added
    text = claims.markdown(claims.ledger(tmp_path))
    assert "Teaching pays. `beats-frozen`" in text and "supported (within 0.02: p < 0.001)" in text


WRONG = {
    "give arm, family, margin, says, study, and either beats": {"beats": ["a"], "sayz": "x"},
    "either beats or level_with": {},
    "family: 'mine' is not among": {"beats": ["a"], "family": "mine"},
    "scale: 'moon' is not among": {"beats": ["a"], "scale": "moon"},
    "margin: 2; a number above 0 and below 1": {"beats": ["a"], "margin": 2},
}


def test_a_wrong_line_is_refused_with_its_remedy(monkeypatch):
    monkeypatch.setitem(claims.FAMILIES, "teach", {"says": "teach"})
    for message, change in WRONG.items():
        with pytest.raises(ResultsError, match=message) as caught:
            claims.registered_claim("x", LINE | change)
        assert str(caught.value).startswith("ledger.yaml: registered: x") and len(str(caught.value)) < 320


def test_regime_and_long_runs_are_read_from_their_own_studies(tmp_path):
    best = {("symbiosis", "best"): (0.25, 0.70, 0.80, 0.90), ("pseudo_label", "plain"): (0.25, 0.5, 0.6, 0.7)}
    growing = {
        ("symbiosis", "plain"): (0.25, 0.6, 0.62, 0.64, 0.70, 0.76),
        ("symbiosis", "best"): (0.25, 0.6, 0.62, 0.64, 0.70, 0.76),
        ("real", "plain"): (0.25, 0.6, 0.62, 0.64, 0.64, 0.65),
        ("static", "plain"): (0.25, 0.6, *[0.65] * 4),
    }
    regime = rows_of(best, study=claims.REGIME_STUDY, seeds=range(10))
    write_results(tmp_path, rows_of(ACCURACY), regime, rows_of(growing, arms_noise=0.001, study="long"))
    found = by_claim(tmp_path)
    assert found.loc["regime-pseudo-label", "verdict"] == SUPPORTED
    assert found.loc["best-five-points", "verdict"] == UNDECIDED  # the main study has no best arm
    assert found.loc["long-symbiosis", "estimate"] == pytest.approx(0.12 - 0.01, abs=0.01)  # beyond that of real data
    assert found.loc["long-symbiosis", "verdict"] == found.loc["long-static", "verdict"] == SUPPORTED
    assert found.loc["long-recursive-warm", "numbers"].endswith("not run: Recursive, warm start")


def test_every_claim_has_one_row_per_scale_in_one_order(tmp_path):
    write_results(tmp_path, rows_of(ACCURACY, seeds=[1, 2], scale="agnews_small"), rows_of(ACCURACY))
    found = claims.ledger(tmp_path)
    assert list(found) == list(claims.LEDGER_COLUMNS) and not found.duplicated(["scale", "claim"]).any()
    assert found["scale"].unique().tolist() == ["published", "miniature", "agnews_small"]
    for _, rows in found.groupby("scale"):
        assert len(rows["source"].drop_duplicates()) == (rows["source"] != rows["source"].shift()).sum()  # grouped
    small = found[found["scale"] == "agnews_small"]
    assert len(small) == len(claims.asked_of({})) and set(small["verdict"]) == {UNDECIDED}
    assert small["p_holm"].isna().all()


def test_a_missing_and_a_damaged_table_are_refused(tmp_path):
    with pytest.raises(ResultsError, match=r"results.csv: no such file; make it with"):
        claims.ledger(tmp_path)
    write_results(tmp_path, rows_of(ACCURACY))
    path = tmp_path / "results.csv"
    path.write_text(path.read_text().replace("scale,", "scael,", 1))
    with pytest.raises(ResultsError, match="column 'scale' is missing"):
        claims.ledger(tmp_path)


# ---- the file


def test_the_file_is_the_same_bytes_on_repeat_and_in_any_order_of_rows(tmp_path):
    rows = rows_of(ACCURACY)
    path = claims.write_claims(write_results(tmp_path, rows))
    assert path == tmp_path / "claims.md"
    before = path.read_bytes()
    claims.write_claims(tmp_path)
    assert path.read_bytes() == before
    (tmp_path / "results.csv").write_bytes(results.csv_bytes(rows.sample(frac=1, random_state=0), results.COLUMNS))
    claims.write_claims(tmp_path)
    assert path.read_bytes() == before
    write_results(tmp_path, rows_of(ACCURACY, arms_noise=0.02))
    claims.write_claims(tmp_path)
    assert path.read_bytes() != before  # other numbers, another file
    assert sorted(p.name for p in tmp_path.iterdir()) == ["claims.md", "results.csv"]


def test_the_file_has_the_rule_every_claim_and_whole_tables(tmp_path):
    write_results(tmp_path, rows_of(ACCURACY))
    text = claims.markdown(claims.ledger(tmp_path))
    assert "*corrected interval*: a claim is" in text and "fewer than 3 seeds" in text and "{" not in text
    assert all(text.count(f"`{claim.slug}`") >= 2 for claim in claims.asked_of({}))  # in its scale, and how
    assert "Not run: `diversity-loss`" in text and "Decided on fewer than 6 seeds, to be run again on 20: `" in text
    assert "## Miniature world (`miniature`)" in text and "nan" not in text
    for section in text.split("\n## ")[1:]:
        tables = [part for part in section.split("\n\n") if part.startswith("|")]
        for table in tables:
            assert len({line.count("|") for line in table.splitlines()}) == 1, section.splitlines()[0]


def factorial_rows(accuracy):
    """Final accuracies of the factorial's cells, three seeds that differ by a constant; accuracy(share, level)."""
    levels = ("low", "mid", "high", "noise00", "noise40")
    cells = [(s, v) for s in ("r000", "r010", "r025", "r050", "r075") for v in levels]
    values = {f"oracle-{s}_{v}": accuracy(int(s[1:]) / 100, v) for s, v in cells} | {
        "oracle-r100": accuracy(1.0, "high")
    }
    lines = [(arm, seed, 3, "accuracy", value + seed * 1e-3 * (1 + len(arm) % 3))
             for arm, value in values.items() for seed in (1, 2, 3)]  # fmt: skip
    return pd.DataFrame(lines, columns=["arm", "seed", "generation", "metric", "value"])


def test_ratio_or_diversity_by_hand():
    worlds = {  # accuracy(share, level): verdicts of ratio-alone, diversity-more, ratio-where-narrow; "": either
        lambda r, v: 0.5 + 0.4 * r: (SUPPORTED, CONTRADICTED, ""),
        lambda r, v: 0.9 if v == "high" else 0.5 + 0.4 * r: (CONTRADICTED, "", SUPPORTED),
        lambda r, v: {"low": 0.5, "mid": 0.7}.get(v, 0.9): (CONTRADICTED, SUPPORTED, ""),
    }
    by_slug = {claim.slug: claim for claim in claims.CLAIMS}
    for accuracy, expected in worlds.items():
        rows = factorial_rows(accuracy)
        for slug, says in zip(("ratio-alone", "diversity-more", "ratio-where-narrow"), expected, strict=True):
            found = verdicts.combine([decide(part, rows).verdict for part in by_slug[slug].parts])
            assert found == says or not says


def test_the_tail_gap_is_the_tails_own_loss_against_real_lessons(tmp_path):
    def rows(head, tail):
        arms = {("real", "plain"): 1.0, ("static", "plain"): head}
        tails = {("real", "plain"): 1.0, ("static", "plain"): tail}
        both = [("density", 1), ("effective_rank", 10)]
        return [
            rows_of(
                {arm: np.array([scale * x]) for arm, x in values.items()},
                f"{measure}_{group}",
                1e-3,
                study="hidden_states",
            )
            for measure, scale in both
            for group, values in (("head", arms), ("tail", tails))
        ]

    lost = by_claim(write_results(tmp_path, *rows(head=0.9, tail=0.6))).loc["inside-static"]
    assert lost["verdict"] == SUPPORTED and lost["estimate"] == pytest.approx(np.log(0.6 / 0.9), abs=0.01)
    alike = by_claim(write_results(tmp_path, *rows(head=0.6, tail=0.9))).loc["inside-static"]
    assert alike["verdict"] == CONTRADICTED
    assert by_claim(tmp_path).loc["inside-symbiosis", "verdict"] == UNDECIDED  # not run


def test_claims_about_interaction_are_asked_where_it_was_run_and_nowhere_else():
    studies = ("interaction", "mixtures", "planted_error", "main")
    here, theory, small, elsewhere = (claims.asked_of({study: pd.DataFrame()}) for study in studies)
    assert {claim.study for claim in here} == {"interaction"} and {claim.study for claim in theory} == {"mixtures"}
    assert {claim.study for claim in small} == set(small_studies.STUDIES)
    anywhere = [claim for claim in claims.CLAIMS if not claim.scale]
    assert len([*here, *theory, *small, *elsewhere]) == len(anywhere) - 1  # test-size has no part
    assert {claim.source for claim in here} == {"arXiv 2505.21677", "this project"}


# ---- the published table against its own sentences


def test_the_published_table_by_hand_arithmetic_and_its_errors():
    table = pd.DataFrame(claims.published_row(claim) for claim in claims.CLAIMS if claim.published).set_index("claim")
    expected = {  # points, verdict
        "below-real": (-43.0, SUPPORTED),  # 41 - 84
        "beats-static": (-16.0, CONTRADICTED),  # 25 - 41
        "recursive-drop": (0.0, CONTRADICTED),  # 26.8 - 26.8
        "approaches-real": (-37.5, CONTRADICTED),  # 25 - (41 + 84) / 2
        "above-guessing": (0.0, CONTRADICTED),  # 25 - 100 / 4
        "only-sustained": (17.4, CONTRADICTED),  # static: 41 - 23.6
        "static-flat": (17.4, CONTRADICTED),
        "recursive-stagnates": (0.0, UNDECIDED),  # one run of 500 rows is known to 5 points on either side
    }
    for claim, (points, says) in expected.items():
        assert (100 * table.loc[claim, "estimate"], table.loc[claim, "verdict"]) == (pytest.approx(points), says)
    assert set(table.index) == {*expected, "test-size"}
    words = "25.00 (symbiosis final) - 19.20 (symbiosis initial) = +5.80 points (+2.2 SE of 2.6)"
    assert words in table.loc["only-sustained", "numbers"]

    def error(**weights):
        found = claims.published_sum("above", {name.replace("_", " "): w for name, w in weights.items()})
        return (found["high"] - found["low"]) / 2 / 1.96, found["verdict"]

    assert error(symbiosis_final=1, guessing=-1)[0] == pytest.approx(math.sqrt(0.25 * 0.75 / 500))
    gap = error(symbiosis_final=1, static_final=-1)[0]
    assert gap == pytest.approx(math.sqrt((0.25 * 0.75 + 0.41 * 0.59) / 500))
    assert error(recursive_final=1, guessing=-1)[1] == UNDECIDED  # +1.8 points, 0.9 SE


def test_published_figures_cannot_be_shares_of_the_official_test_set():
    def is_share(percent, n):
        return f"{100 * round(percent * n / 100) / n:.2f}" == f"{percent:.2f}"

    figures = [value for pair in PUBLISHED_ACCURACY.values() for value in pair]
    assert [x for x in figures if not is_share(x, 7600)] == [23.60]
    assert [n for n in range(1, 1501) if all(is_share(x, n) for x in figures)] == [500, 1000, 1500]
    assert all(math.isclose(5 * x, round(5 * x)) for x in figures) and len(figures) == 8
    assert (f"{100 * 1793 / 7600:.2f}", f"{100 * 1794 / 7600:.2f}") == ("23.59", "23.61")
    row = claims.published_row(next(claim for claim in claims.CLAIMS if claim.slug == "test-size"))
    assert row["verdict"] == CONTRADICTED and row["numbers"] == (
        "8 of 8 figures are multiples of 0.2; sizes up to 1500 that give them all: 500, 1000, 1500; "
        "23.60 is no share of 7600: 1793 rows give 23.59 and 1794 rows give 23.61"
    )
