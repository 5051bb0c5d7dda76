"""The claims ledger: what the Symbiosis paper, its results sheet and this project say, and what the numbers say to it.

The table of claims stands here; `verdicts` has the rule that decides them. reports/claims.md is written from here.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from symbiosis.analysis import interaction_claims
from symbiosis.analysis.published import GUESSING, PUBLISHED_HEAD, PUBLISHED_SCALE, published_rows
from symbiosis.analysis.statistics import holm
from symbiosis.analysis.tables import arm_name
from symbiosis.analysis.verdicts import (
    CONTRADICTED,
    LAST,
    MIN_SEEDS,
    NOTE,
    PAPER,
    PROJECT,
    SHEET,
    SOURCES,
    SUPPORTED,
    UNDECIDED,
    Cells,
    Claim,
    Finding,
    Part,
    combine,
    decide,
    deciding,
    in_words,
)
from symbiosis.settings import resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import HOW_TO_MAKE, ResultsError, read_results

REGIME_STUDY = "rare_tail"  # the named regime: the pool rarely shows what the test asks for
FACTORIAL_STUDY, MIXING_STUDY, HIDDEN_STATES_STUDY = "ratio_or_diversity", "mixing", "hidden_states"
FIVE_POINTS = 0.05
SATURATED = 0.02  # accuracy that moves by less than this between generation 3 and the last has stopped moving
SCALES = {  # in the order of the ledger; scales that are not named here follow
    PUBLISHED_SCALE: "The published table against its own sentences",
    "miniature": "Miniature world",
    "agnews_small": "AG News, small models",
    "paper": "AG News, the paper's models",
    "interaction_miniature": "Models that train on each other's outputs: miniature world",
    "interaction_small": "Models that train on each other's outputs: real tasks, small models",
    "interaction_paper": "Models that train on each other's outputs: the paper's models",
}
COLUMNS = (
    "scale", "claim", "source", "statement", "test", "study", "numbers",
    "estimate", "low", "high", "n", "p", "p_holm", "verdict",
)  # fmt: skip


# ---- parts


def lead(arm: str, over: str, by: float = 0.0) -> Part:
    """Final accuracy of `arm` minus that of `over` is above `by`."""
    return Part(f"{arm_name(arm)} - {arm_name(over)}", lambda at: at(arm) - at(over), low=by)


def trails(arm: str, behind: str) -> Part:
    """Final accuracy of `arm` is below that of `behind`."""
    return Part(f"{arm_name(arm)} - {arm_name(behind)}", lambda at: at(arm) - at(behind), -math.inf, 0.0)


def rises(arm: str, since: int) -> Part:
    """Accuracy of the last generation is above that of generation `since` (-2: the one before the last)."""
    return Part(_since(arm, since), lambda at: at(arm) - at(arm, since))


def falls(arm: str, since: int) -> Part:
    """Accuracy of the last generation is below that of generation `since`."""
    return Part(_since(arm, since), lambda at: at(arm) - at(arm, since), -math.inf, 0.0)


def stays(arm: str, since: int, within: float) -> Part:
    """Accuracy of the last generation is within `within` of that of generation `since`."""
    return Part(_since(arm, since), lambda at: at(arm) - at(arm, since), -within, within)


def beats_teacher(arm: str) -> Part:
    """Final accuracy of the Student is above the label accuracy the Generator began with."""
    name = f"{arm_name(arm)}, Student - Generator at generation 0"
    return Part(name, lambda at: at(arm) - at(arm, 0, "generator_accuracy"))


def largest_rise(at: Cells, arm: str, metric: str = "train_label_loss") -> pd.Series:
    """The largest change of a metric from one generation to the next, by seed; negative where it only falls."""
    return at.over_generations(arm, metric).dropna().diff(axis=1).max(axis=1)


def world(at: Cells, cell: str) -> pd.Series:
    """Final accuracy of a cell of the factorial, such as 'r025_high'."""
    return at(f"oracle-{cell}")


def gain(at: Cells, level: str) -> pd.Series:
    """What three quarters of real rows are worth against none, at one level of the synthetic rows."""
    return world(at, f"r075_{level}") - world(at, f"r000_{level}")


def spread(at: Cells, share: str) -> pd.Series:
    """What high diversity is worth against low, at one share of real rows."""
    return world(at, f"{share}_high") - world(at, f"{share}_low")


def early_fall(at: Cells, metric: str) -> pd.Series:
    """A metric of the replacing recursion relative to generation 1, mean over generations 2 to 4."""
    arm = "recursive-replace"
    return sum(at(arm, g, metric) for g in (2, 3, 4)) / 3 / at(arm, 1, metric)


def tail_gap(arm: str, measure: str) -> Part:
    """How much more rare texts have lost than familiar ones, against real lessons (`representations.tail_gap`): < 0.

    ln(tail / tail of real) - ln(head / head of real) of the measure at the last generation.
    """

    def gap(at: Cells) -> pd.Series:
        tail, head = (at(arm, metric=f"{measure}_{g}") / at("real", metric=f"{measure}_{g}") for g in ("tail", "head"))
        return np.log(tail) - np.log(head)

    return Part(f"{arm_name(arm)}, tail gap of {measure.replace('_', ' ')}", gap, -math.inf, 0.0)


def _since(arm: str, since: int) -> str:
    return f"{arm_name(arm)}, last - " + ("the one before" if since == -2 else f"generation {since}")


# ---- the claims, grouped by source

DIVERSITY = Part(
    "Recursive, warm start, different word pairs, last lesson - first",
    lambda at: at("recursive-warm", LAST, "lesson_distinct_2") - at("recursive-warm", 1, "lesson_distinct_2"),
    -math.inf,
    0.0,
)
SPIKES = (
    Part("Symbiosis, largest change", lambda at: largest_rise(at, "symbiosis")),
    Part(
        "largest change, Symbiosis - Static synthetic",
        lambda at: largest_rise(at, "symbiosis") - largest_rise(at, "static"),
    ),
)
HALFWAY = Part(
    "Symbiosis - halfway between Static synthetic and Real data",
    lambda at: at("symbiosis") - (at("static") + at("real")) / 2,
)
SUSTAINED = (
    rises("symbiosis", 1),
    *(falls(rival, 1) for rival in ("static", "recursive", "pseudo_label")),
)
SHARES, LEVELS = ("r000", "r010", "r025", "r050", "r075"), ("low", "mid", "high")
RATIO_ONLY = tuple(
    Part(f"high - low diversity at real share {share[1:]}%", lambda at, s=share: spread(at, s), -SATURATED, SATURATED)
    for share in SHARES[:3]
)
DIVERSITY_MORE = Part(
    "high - low diversity, mean over real shares, less 75% - 0% real, mean over diversities",
    lambda at: sum(spread(at, s) for s in SHARES) / len(SHARES) - sum(gain(at, v) for v in LEVELS) / len(LEVELS),
)
WIDE_ENOUGH = Part(
    "0% real at high diversity - all real", lambda at: world(at, "r000_high") - world(at, "r100"), -SATURATED
)
TAILS_FIRST = Part(
    "accuracy - tail coverage", lambda at: early_fall(at, "accuracy") - early_fall(at, "lesson_tail_coverage")
)
FINAL = "final accuracy, seed by seed, is above 0"

CLAIMS = tuple(sorted((
    Claim(
        "below-real", PAPER, "Static synthetic text stays below real data.",
        "Static - real, final accuracy, seed by seed, is below 0.",
        (trails("static", "real"),),
    ),
    Claim(
        "beats-static", PAPER, "Symbiosis beats training on static synthetic text.",
        f"Symbiosis - static, {FINAL}.",
        (lead("symbiosis", "static"),),
    ),
    Claim(
        "only-sustained", PAPER, "Symbiosis is the only synthetic method with sustained improvement.",
        "Accuracy of the last generation minus that of generation 1 is above 0 for symbiosis and below 0 for each of "
        "static, recursive and pseudo-label (one of them above 0 contradicts).",
        SUSTAINED,
    ),
    Claim(
        "diversity-loss", PAPER, "Collapse is visible as a loss of diversity.",
        "Share of different word pairs in the lessons of the warm recursion: last - first generation is below 0.",
        (DIVERSITY,),
    ),
    Claim(
        "loss-spikes", PAPER, "Spikes of the training loss come from the changing curriculum.",
        "Largest change of the label loss in training from one generation to the next [nats]: above 0 in symbiosis "
        "(there is a spike), and larger there than in static, where the lesson stays. The loss is the mean over all "
        "passes of a lesson, so a spike shorter than a lesson does not show.",
        SPIKES,
    ),
    Claim(
        "feedback-matters", PAPER, "What the Student finds hard is worth asking.",
        f"Symbiosis - symbiosis with random feedback, {FINAL}.",
        (lead("symbiosis", "symbiosis-random"),),
    ),
    Claim(
        "update-matters", PAPER, "Updating the Generator is part of what makes the loop work.",
        f"Symbiosis - symbiosis with a frozen Generator, {FINAL}.",
        (lead("symbiosis", "symbiosis-frozen"),),
    ),
    Claim(
        "recursive-drop", SHEET, "Recursive training shows a significant drop.",
        "Recursion from a Student that was taught nothing: accuracy of the last generation minus that of generation 0 "
        "is below 0.",
        (falls("recursive", 0),),
    ),
    Claim(
        "recursive-warm-drop", SHEET, "Recursive training shows a significant drop where there is something to lose.",
        "The same from a Student that first learned real rows.",
        (falls("recursive-warm", 0),),
    ),
    Claim(
        "static-degrades", SHEET, "Static synthetic text degrades the Student in the last generation.",
        "Static: accuracy of the last generation minus that of the one before is below 0.",
        (falls("static", -2),),
    ),
    Claim(
        "approaches-real", SHEET, "Symbiosis approaches the bound set by real data.",
        "At least half of the gap is closed: symbiosis - (static + real) / 2, final accuracy, seed by seed, is above "
        "0.",
        (HALFWAY,),
    ),
    Claim(
        "above-guessing", PROJECT, "The Student of symbiosis learns the task.",
        "Its final accuracy is above guessing, 1/4.",
        (Part("Symbiosis", lambda at: at("symbiosis"), low=GUESSING),),
    ),
    Claim(
        "text-needed", PROJECT, "Text has to be generated; labelling the pool is not enough.",
        f"Symbiosis - pseudo-label, {FINAL}.",
        (lead("symbiosis", "pseudo_label"),),
    ),
    Claim(
        "dev-as-feedback", PROJECT, "Labelled dev rows are better spent as feedback than as training rows.",
        f"Best symbiosis fed by influence on the dev rows - static with them in its lessons, {FINAL}.",
        (lead("symbiosis-best_influence", "static-dev"),),
    ),
    Claim(
        "best-five-points", PROJECT, "The best symbiosis beats static synthetic text by five points.",
        "Best symbiosis - static, final accuracy, seed by seed, is above 0.05.",
        (lead("symbiosis-best", "static", by=FIVE_POINTS),),
    ),
    Claim(
        "best-feedback", PROJECT, "Feedback matters in the best symbiosis.",
        f"Best symbiosis - the same with random feedback, {FINAL}.",
        (lead("symbiosis-best", "symbiosis-best_random"),),
    ),
    Claim(
        "own-weakness", PROJECT, "It is this Student's weakness that has to be taught.",
        f"Best symbiosis - the same with another Student's feedback, {FINAL}.",
        (lead("symbiosis-best", "symbiosis-best_foreign"),),
    ),
    Claim(
        "beats-teacher-labels", PROJECT, "A Student taught by pseudo-labels gets better than the labels' author.",
        "Pseudo-label: final accuracy of the Student - label accuracy of the Generator at generation 0 on the same "
        "test is above 0.",
        (beats_teacher("pseudo_label"),),
    ),
    Claim(
        "beats-teacher-best", PROJECT, "The Student of the best symbiosis gets better than its teacher.",
        "Best symbiosis: final accuracy of the Student - label accuracy of the Generator at generation 0 is above 0.",
        (beats_teacher("symbiosis-best"),),
    ),
    *(
        Claim(
            f"regime-{slug}", PROJECT,
            f"Where the pool rarely shows what the test asks for, the best symbiosis beats {name}.",
            f"Best symbiosis - {name}, {FINAL}.",
            (lead("symbiosis-best", arm),), REGIME_STUDY,
        )
        for slug, arm, name in (
            ("pseudo-label", "pseudo_label", "labelling the pool"),
            ("feedback", "symbiosis-best_random", "itself with random feedback"),
            ("static", "static", "static synthetic data"),
            ("pool-and-write-25", "symbiosis-pool_and_write_25", "25% labelled pool texts and 75% written ones"),
            ("pool-and-write-50", "symbiosis-pool_and_write_50", "50% labelled pool texts and 50% written ones"),
            ("pool-and-write-75", "symbiosis-pool_and_write_75", "75% labelled pool texts and 25% written ones"),
            ("label-hard", "symbiosis-label_hard", "labelling the texts the Student finds hard"),
            ("fresh-filtered", "symbiosis-fresh_filtered", "new filtered text without a pool"),
            ("own-weakness", "symbiosis-best_foreign", "itself with another Student's feedback"),
        )
    ),
    Claim(
        "ratio-alone", NOTE, "The share of synthetic rows drives collapse, whatever their variety.",
        "High - low diversity of the synthetic rows lies within 0.02 on either side of 0, at 0, 10 and 25% real rows.",
        RATIO_ONLY, FACTORIAL_STUDY,
    ),
    Claim(
        "diversity-more", NOTE, "The variety of synthetic rows matters more than their share.",
        "Gain of high over low diversity (mean over real shares) less gain of 75% over 0% real rows (mean over "
        "diversities) is above 0.",
        (DIVERSITY_MORE,), FACTORIAL_STUDY,
    ),
    Claim(
        "ratio-where-narrow", PROJECT, "The share of real rows matters more where the synthetic ones are narrow.",
        "Gain of 75% over 0% real rows, at low less at high diversity, is above 0.",
        (Part("gain at low - gain at high diversity", lambda at: gain(at, "low") - gain(at, "high")),), FACTORIAL_STUDY,
    ),
    Claim(
        "wide-enough", PROJECT, "Synthetic rows of high diversity and exact quality replace real ones without loss.",
        "No real row, high diversity - all rows real lies above -0.02.",
        (WIDE_ENOUGH,), FACTORIAL_STUDY,
    ),
    Claim(
        "ratio-where-wrong", PROJECT, "The share of real rows matters more where synthetic labels are wrong.",
        "Gain of 75% over 0% real rows, at 40% wrong labels less at none, is above 0.",
        (Part("gain at 40% - gain at 0% wrong", lambda at: gain(at, "noise40") - gain(at, "noise00")),),
        FACTORIAL_STUDY,
    ),
    Claim(
        "tails-first", NOTE, "Rare patterns go before accuracy does.",
        "Recursion that replaces its lessons, relative to generation 1, mean over generations 2 to 4: accuracy less "
        "tail coverage is above 0.",
        (TAILS_FIRST,), MIXING_STUDY,
    ),
    *(
        Claim(
            f"mixing-{slug}", source, statement, f"{arm_name(arm)} - {arm_name(over)}, {FINAL}.", (lead(arm, over),),
            MIXING_STUDY,
        )
        for slug, source, statement, arm, over in (
            ("accumulate", PROJECT, "Accumulated lessons beat replaced ones.", "recursive-accumulate",
             "recursive-replace"),
            ("budget", PROJECT, "Accumulating keeps its gain at a fixed number of rows.",
             "recursive-accumulate_subsample", "recursive-replace"),
            ("fresh", PROJECT, "New real rows beat the same ones again, at a quarter of each lesson.",
             "recursive-fresh_real_25", "recursive-fixed_real_25"),
            ("weak", PROJECT, "A weak labeller asked about rejected texts lifts the recursion.",
             "recursive-weak_labels", "recursive-replace"),
        )
    ),
    *(
        Claim(
            f"inside-{arm}", PROJECT, f"Rare patterns that {name} crowd out lose their dense representation.",
            "ln(tail / tail of real) - ln(head / head of real) at the last generation is below 0: of the density of "
            "the MLP's units, and of the effective rank of the hidden states.",
            (tail_gap(arm, "density"), tail_gap(arm, "effective_rank")), HIDDEN_STATES_STUDY,
        )
        for arm, name in (
            ("recursive-warm", "recursive lessons"), ("static", "static lessons"), ("symbiosis", "symbiotic lessons"),
            ("symbiosis-best", "the best symbiosis's lessons"),
        )
    ),
    Claim(
        "long-symbiosis", PROJECT, "Symbiosis keeps growing over long runs.",
        "Accuracy of the last generation minus that of generation 3 is above 0.",
        (rises("symbiosis", 3),), "long",
    ),
    Claim(
        "long-best", PROJECT, "The best symbiosis keeps growing over long runs.",
        "Accuracy of the last generation minus that of generation 3 is above 0.",
        (rises("symbiosis-best", 3),), "long",
    ),
    Claim(
        "long-recursive-warm", PROJECT, "Recursion from a warm start keeps falling over long runs.",
        "Accuracy of the last generation minus that of generation 3 is below 0.",
        (falls("recursive-warm", 3),), "long",
    ),
    Claim(
        "long-static", PROJECT, "Static synthetic text saturates.",
        "Accuracy of the last generation minus that of generation 3 lies within 0.02 on either side of 0.",
        (stays("static", 3, SATURATED),), "long",
    ),
    *interaction_claims.CLAIMS,
), key=lambda claim: SOURCES.index(claim.source)))  # fmt: skip


# ---- the ledger


def ledger(reports_dir: str | Path, scales: Sequence[str] | None = None) -> pd.DataFrame:
    """A row per scale and claim: what was found, and the verdict.

    Args:
        reports_dir: folder of results.csv.
        scales:      which to read, 'published' for the paper's own table; None: that and all results.csv holds.

    Columns: scale, claim (slug), source, statement, test, study; numbers (every part, as text); estimate, low, high
    (95% over seeds), n seeds and p of the part that decides; p_holm (over all parts of all claims of the scale);
    verdict. Accuracies are shares, losses nats.

    Raises ResultsError where results.csv is missing or damaged, or holds nothing of a scale asked for.
    """
    held = _held(reports_dir)
    known = _in_order({PUBLISHED_SCALE, *(scale for scale, _ in held)})
    scales = known if scales is None else list(scales)
    if unknown := [scale for scale in scales if scale not in known]:
        holds = ", ".join(known[1:]) or "nothing"
        raise ResultsError(f"results.csv: no rows of scale '{unknown[0]}' (it holds {holds}); {HOW_TO_MAKE}")
    found = []
    for scale in scales:
        studies = {study: read_results(reports_dir, scale, study) for s, study in sorted(held) if s == scale}
        found += published_rows(CLAIMS) if scale == PUBLISHED_SCALE else scale_rows(scale, studies)
    return pd.DataFrame(found, columns=list(COLUMNS))


def scale_rows(scale: str, studies: dict[str, pd.DataFrame]) -> list[dict]:
    """Claims that a scale can speak to, against its studies {study: rows with `arm`}; Holm over all their parts."""
    nothing = pd.DataFrame(columns=["arm", "seed", "generation", "metric", "value"])
    claims = asked_of(studies)
    found = [[decide(part, studies.get(claim.study, nothing)) for part in claim.parts] for claim in claims]
    adjusted = iter(holm([finding.p for findings in found for finding in findings]))
    result = []
    for claim, findings in zip(claims, found, strict=True):
        result.append(_row(scale, claim, findings, [next(adjusted) for _ in findings]))
    return result


def asked_of(studies: dict[str, pd.DataFrame]) -> list[Claim]:
    """Claims about interaction where that study was run (its scales hold nothing else), all others elsewhere."""
    interaction = interaction_claims.STUDY in studies
    return [claim for claim in CLAIMS if (claim.study == interaction_claims.STUDY) == interaction]


def _row(scale: str, claim: Claim, findings: list[Finding], p_holm: list[float]) -> dict:
    whole = combine([finding.verdict for finding in findings])
    i = deciding(whole, findings)
    one = findings[i]
    names = {"scale": scale, "claim": claim.slug, "source": claim.source, "statement": claim.statement}
    numbers = {"estimate": one.estimate, "low": one.low, "high": one.high, "n": len(one.values), "p": one.p}
    text = {"test": claim.test, "study": claim.study, "numbers": "; ".join(map(in_words, findings))}
    return names | text | numbers | {"p_holm": p_holm[i], "verdict": whole}


def _held(reports_dir: str | Path) -> set[tuple[str, str]]:
    """(scale, study) pairs of results.csv; whether its lines are whole is for read_results to say."""
    path = resolve(reports_dir) / "results.csv"
    if not path.is_file():
        raise ResultsError(f"{path}: no such file; {HOW_TO_MAKE}")
    with path.open(newline="") as lines:
        return {(row.get("scale") or "", row.get("study") or "") for row in csv.DictReader(lines)}


def _in_order(scales: set[str]) -> list[str]:
    return [*(s for s in SCALES if s in scales), *sorted(scales - set(SCALES))]


# ---- the ledger as people read it

HEAD = f"""# Claims and verdicts

What the Symbiosis paper and its results sheet say, what this project asks besides, and what the runs say to it. This
file is computed from `results.csv` by `symbiosis/analysis/claims.py`; nothing in it is written by hand.

**The rule.** Every test gives one number per seed and names the region in which the claim puts it. A claim is
*supported* if the whole 95% t-interval over seeds lies in that region, *contradicted* if it lies wholly outside, and
*undecided* otherwise, with fewer than {MIN_SEEDS} seeds, or where an arm was not run. A claim of several parts needs
all of them and is contradicted by one. With fewer than {MIN_SEEDS} seeds the number of every seed is shown.

**p** is two-sided, of the t-test over seeds that decides, against the nearest end of its region, with Holm's correction
over all tests of the scale. Verdicts go by the uncorrected interval: one whose p is 0.05 or more is a verdict that so
many tests can produce by chance. Accuracies are shares of the test rows, differences are taken seed by seed, and *last*
and *final* are the last generation that every arm of the study reached.

"""


def markdown(ledger: pd.DataFrame) -> str:
    """The ledger as the text of claims.md: the rule, a table per scale, and how each claim is decided."""
    sections = [_section(scale, rows) for scale, rows in ledger.groupby("scale", sort=False)]
    ours = ledger[ledger["scale"] != PUBLISHED_SCALE].drop_duplicates("claim")
    tests = [[f"`{row.claim}`", row.test, row.study] for row in ours.itertuples()]
    end = ["## How each claim is decided\n\n" + _table(["Claim", "Test", "Study"], tests)] if tests else []
    return HEAD + "\n".join(sections + end)


def write_claims(reports_dir: str | Path) -> Path:
    """Write `claims.md` beside results.csv, the same bytes for the same results; returns its path."""
    path = resolve(reports_dir) / "claims.md"
    write_atomic(path, markdown(ledger(reports_dir)).encode())
    return path


def _section(scale: str, rows: pd.DataFrame) -> str:
    counts = rows["verdict"].value_counts()
    tally = ", ".join(f"{counts.get(name, 0)} {name}" for name in (SUPPORTED, CONTRADICTED, UNDECIDED))
    text = f"## {SCALES.get(scale, scale)} (`{scale}`)\n\n{tally[0].upper() + tally[1:]}.\n\n"
    if scale == PUBLISHED_SCALE:
        lines = [[r.source, f"{r.statement} `{r.claim}`", r.test, r.numbers, r.verdict] for r in rows.itertuples()]
        return text + PUBLISHED_HEAD + _table(["Source", "Claim", "Test", "Numbers", "Verdict"], lines)
    lines = [[r.source, f"{r.statement} `{r.claim}`", r.numbers, _p(r.p_holm), r.verdict] for r in rows.itertuples()]
    return text + _table(["Source", "Claim", "Numbers (95% interval)", "p", "Verdict"], lines)


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *lines])


def _p(p: float) -> str:
    if math.isnan(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
