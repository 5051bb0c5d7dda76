"""The claims ledger: what the Symbiosis paper, its results sheet and this project say, and what the numbers say to it.

The claims stand in claims.yaml, which says what its verbs mean; `verdicts` has the rule that decides them.
reports/claims.md is written from here.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from symbiosis.analysis import hidden_states
from symbiosis.analysis.interaction import beyond_baseline, rank_agreement, read_scan, scan_rows
from symbiosis.analysis.statistics import MIN_SEEDS, holm
from symbiosis.analysis.tables import LAST, PUBLISHED, SeedValues, arm_name, markdown_table
from symbiosis.analysis.verdicts import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Claim,
    Finding,
    Part,
    combine,
    decide,
    deciding,
    in_words,
)
from symbiosis.settings import read_yaml, resolve
from symbiosis.store import results
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import ResultsError

PUBLISHED_SCALE, THEORY_SCALE = "published", "linear_theory"
PUBLISHED_TEST_ROWS = 500  # the smallest test set that gives every published figure
REGIME_STUDY = "rare_tail"  # the named regime: the pool rarely shows what the test asks for
LEDGER = read_yaml(Path(__file__).with_name("ledger.yaml"))
SCALES = LEDGER["scales"]  # in the order of the ledger
LEDGER_COLUMNS = (
    "scale", "claim", "source", "statement", "test", "study", "numbers",
    "estimate", "low", "high", "n", "p", "p_holm", "verdict",
)  # fmt: skip
NamedFormula = tuple[str, Callable[[SeedValues], pd.Series]]  # what the ledger calls the number, and the number

# ---- the verbs of claims.yaml


def final(values: SeedValues, arm: str, metric: str) -> pd.Series:
    return values(arm, LAST, metric)


def largest_rise(values: SeedValues, arm: str, metric: str) -> pd.Series:
    """The largest change of a metric from one generation to the next, by seed; negative where it only falls."""
    by_generation = {g: values(arm, g, metric) for g in range(1, max(values.last, 1) + 1)}
    return pd.DataFrame(by_generation).dropna().diff(axis=1).max(axis=1)


QUANTITIES = {"final": final, "largest_rise": largest_rise, "beyond_baseline": beyond_baseline}


def between_arms(arms: Sequence[str], metric: str = "accuracy", of: str = "final") -> NamedFormula:
    """A quantity of the first arm less its mean over the others."""
    quantity, (arm, *rivals) = QUANTITIES[of], arms

    def formula(values: SeedValues) -> pd.Series:
        return quantity(values, arm, metric) - sum(quantity(values, r, metric) for r in rivals) / max(len(rivals), 1)

    return " - ".join(map(arm_name, arms)), formula


def over_time(arm: str, since: int, metric: str = "accuracy") -> NamedFormula:
    """A metric of the last generation less that of generation `since` (-2: the one before the last)."""
    name = f"{arm_name(arm)}, last - " + ("the one before" if since == -2 else f"generation {since}")
    return name, lambda values: values(arm, LAST, metric) - values(arm, since, metric)


def over_teacher(arm: str) -> NamedFormula:
    """Final accuracy of the Student less the label accuracy the Generator began with."""
    name = f"{arm_name(arm)}, Student - Generator at generation 0"
    return name, lambda values: values(arm) - values(arm, 0, "generator_accuracy")


def gains(pairs: Sequence[Sequence[str]], less: Sequence[Sequence[str]]) -> NamedFormula:
    """Final accuracy of a less b, mean over the pairs, minus the same of other pairs."""

    def mean(values: SeedValues, pairs: Sequence[Sequence[str]]) -> pd.Series:
        return sum(values(a) - values(b) for a, b in pairs) / len(pairs)

    return "gain", lambda values: mean(values, pairs) - mean(values, less)


def early_falls(arm: str, metric: str, than: str) -> NamedFormula:
    """One metric less another, each the mean over generations 2 to 4 relative to generation 1."""

    def kept(values: SeedValues, metric: str) -> pd.Series:
        return sum(values(arm, g, metric) for g in (2, 3, 4)) / 3 / values(arm, 1, metric)

    return f"{metric} - {than}", lambda values: kept(values, metric) - kept(values, than)


def tail_against_real(arm: str, measure: str) -> NamedFormula:
    """`hidden_states.tail_gap` of the arm against real lessons, at the last generation."""

    def formula(values: SeedValues) -> pd.Series:
        ends = [values(one, metric=f"{measure}_{end}") for one in (arm, "real") for end in ("tail", "head")]
        return hidden_states.tail_gap(*ends)

    return f"{arm_name(arm)}, tail gap of {measure.replace('_', ' ')}", formula


def theory_agreement(metric: str) -> NamedFormula:
    return f"rank agreement of {metric}", lambda values: rank_agreement(values, metric)


VERBS: dict[str, Callable[..., NamedFormula]] = {
    **dict.fromkeys(("lead", "trails", "ties"), between_arms),
    **dict.fromkeys(("rises", "falls", "stays"), over_time),
    "beats_teacher": over_teacher,
    "gains": gains,
    "outlasts": early_falls,
    "tail_loses": tail_against_real,
    "follows_theory": theory_agreement,
}
BELOW_ZERO = ("trails", "falls", "tail_loses")


def read_part(line: Mapping[str, Any]) -> Part:
    """A line of `parts`: its verb comes first, `name`, `above` and `within` are for all verbs."""
    options = dict(line)
    verb = next(iter(options))
    name, above, within = options.pop("name", ""), options.pop("above", 0.0), options.pop("within", None)
    region = (-math.inf, 0.0) if verb in BELOW_ZERO else (above, math.inf) if within is None else (-within, within)
    own_name, formula = VERBS[verb](options.pop(verb), **options)
    return Part(name or own_name, formula, *region)


def read_claims() -> tuple[Claim, ...]:
    """The claims of claims.yaml, in its order."""
    by_source = read_yaml(Path(__file__).with_name("claims.yaml"))
    claims = []
    for source, of_source in by_source.items():
        for slug, template in of_source.items():
            for words in template.pop("each", [{}]):
                entry = filled(template, words)
                each, lines = entry.pop("each_part", [{}]), entry.pop("parts", [])
                parts = tuple(read_part(filled(line, w)) for w in each for line in lines)
                claims.append(Claim(filled(slug, words), source, parts=parts, **entry))
    return tuple(claims)


def filled(value: Any, words: Mapping[str, Any]) -> Any:
    """The value with each {word} in its texts replaced."""
    text = json.dumps(value)
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", str(word))
    return json.loads(text)


CLAIMS = read_claims()


# ---- the ledger


def ledger(reports_dir: str | Path) -> pd.DataFrame:
    """A row per claim of the paper's own table and of every scale in results.csv: what was found, and the verdict.

    No claim speaks of scales that are not among SCALES.

    Columns: scale, claim (slug), source, statement, test, study; numbers (every part, as text); estimate, low, high
    (95% over seeds), n seeds and p of the part that decides; p_holm (over all parts of all claims of the scale);
    verdict. Accuracies are shares, losses nats.

    Raises ResultsError where results.csv is missing or damaged.
    """
    path = resolve(reports_dir) / "results.csv"
    if not path.is_file():
        raise ResultsError(f"{path}: no such file; {results.HOW_TO_MAKE}")
    run = set(results.read_table(path, results.COLUMNS, results.NUMBERS)["scale"])
    rows = published_rows()
    for scale in SCALES:
        if scale in run:
            rows += scale_rows(scale, results.read_studies(reports_dir, scale))
        elif scale == THEORY_SCALE and (path.parent / "mixtures.csv").is_file():
            rows += scale_rows(scale, {"mixtures": scan_rows(read_scan(reports_dir))})
    return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))


def scale_rows(scale: str, studies: Mapping[str, pd.DataFrame]) -> list[dict]:
    """Claims that a scale can speak to, against its studies {study: rows with `arm`}; Holm over all their parts."""
    nothing = pd.DataFrame(columns=["arm", "seed", "generation", "metric", "value"])
    claims = asked_of(studies)
    findings = [[decide(part, studies.get(claim.study, nothing)) for part in claim.parts] for claim in claims]
    adjusted = iter(holm([finding.p for of_claim in findings for finding in of_claim]))
    return [
        _ledger_row(scale, claim, of_claim, [next(adjusted) for _ in of_claim])
        for claim, of_claim in zip(claims, findings, strict=True)
    ]


def asked_of(studies: Mapping[str, pd.DataFrame]) -> list[Claim]:
    """Claims about interaction where that study was run (its scales hold nothing else), all others elsewhere."""
    alone = {"interaction", "mixtures"}
    return [claim for claim in CLAIMS if claim.parts and {claim.study} & alone == set(studies) & alone]


def _ledger_row(scale: str, claim: Claim, findings: list[Finding], p_holm: list[float]) -> dict:
    if claim.undecidable:
        findings = [replace(finding, verdict=UNDECIDED) for finding in findings]
    verdict = combine([finding.verdict for finding in findings])
    i = deciding(verdict, findings)
    one = findings[i]
    names = {"scale": scale, "claim": claim.slug, "source": claim.source, "statement": claim.statement}
    numbers = {"estimate": one.estimate, "low": one.low, "high": one.high, "n": len(one.values), "p": one.p}
    in_text = [*map(in_words, findings), *([f"not decidable: {claim.undecidable}"] if claim.undecidable else [])]
    text = {"test": claim.test, "study": claim.study, "numbers": "; ".join(in_text)}
    return names | text | numbers | {"p_holm": p_holm[i], "verdict": verdict}


# ---- the published table against its own sentences

FIGURES = {"guessing": 25.0} | {  # in percent; AG News has four classes
    f"{arm} {when}": value
    for arm, pair in PUBLISHED.items()
    for when, value in zip(("initial", "final"), pair, strict=True)
}


def published_rows() -> list[dict]:
    """Rows of the ledger of those claims that the published table itself decides, by arithmetic on its figures."""
    return [_published_row(claim) for claim in CLAIMS if claim.published]


def _published_row(claim: Claim) -> dict:
    row = {"scale": PUBLISHED_SCALE, "claim": claim.slug, "source": claim.source, "statement": claim.statement}
    row |= {"test": claim.published.get("test", claim.test), "study": "", "n": 1}
    if "numbers" in claim.published:
        return row | {name: claim.published[name] for name in ("numbers", "verdict")}
    sums = [published_sum(side, weights) for one in claim.published["sums"] for side, weights in one.items()]
    whole = combine([one["verdict"] for one in sums])
    bounds = next(one for one in sums if one["verdict"] == whole)
    return row | bounds | {"numbers": "; ".join(one["numbers"] for one in sums)}


def published_sum(side: str, weights: Mapping[str, float]) -> dict:
    """A weighted sum of published figures {'<arm> initial' | '<arm> final' | 'guessing': weight}, as shares.

        standard error = sqrt(sum_i w_i^2 x_i (100 - x_i) / PUBLISHED_TEST_ROWS) points, of independent draws of rows

    side: 'above' or 'below' 0. Contradicted where the sum is not on that side at all; supported from 1.96 standard
    errors on. `numbers` is the sum as one does it by hand.
    """
    total = sum(weight * FIGURES[name] for name, weight in weights.items())
    measured = [(weight, FIGURES[name]) for name, weight in weights.items() if name != "guessing"]
    error = math.sqrt(sum(w**2 * x * (100 - x) for w, x in measured) / PUBLISHED_TEST_ROWS)
    beyond = total if side == "above" else -total
    verdict = CONTRADICTED if beyond <= 0 else SUPPORTED if beyond > 1.96 * error else UNDECIDED
    factors = {name: f"{abs(w):g} x " if abs(w) != 1 else "" for name, w in weights.items()}
    terms = [("- " if w < 0 else "+ ") + f"{factors[x]}{FIGURES[x]:.2f} ({x})" for x, w in weights.items()]
    words = f"{' '.join(terms).removeprefix('+ ')} = {total:+.2f} points ({total / error:+.1f} SE of {error:.1f})"
    bounds = {"estimate": total, "low": total - 1.96 * error, "high": total + 1.96 * error}
    return {name: value / 100 for name, value in bounds.items()} | {"verdict": verdict, "numbers": words}


# ---- the ledger as people read it


def markdown(ledger: pd.DataFrame) -> str:
    """The ledger as the text of claims.md: the rule, a table per scale, and how each claim is decided."""
    sections = [_section(scale, rows) for scale, rows in ledger.groupby("scale", sort=False)]
    ours = ledger[ledger["scale"] != PUBLISHED_SCALE].drop_duplicates("claim")
    tests = [[f"`{row.claim}`", row.test, row.study] for row in ours.itertuples()]
    end = ["## How each claim is decided\n\n" + markdown_table(["Claim", "Test", "Study"], tests)] if tests else []
    return LEDGER["head"].format(min_seeds=MIN_SEEDS) + "\n" + "\n".join(sections + end)


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
        head = LEDGER["published_head"].format(test_rows=PUBLISHED_TEST_ROWS) + "\n"
        return text + head + markdown_table(["Source", "Claim", "Test", "Numbers", "Verdict"], lines)
    lines = [[r.source, f"{r.statement} `{r.claim}`", r.numbers, _p(r.p_holm), r.verdict] for r in rows.itertuples()]
    return text + markdown_table(["Source", "Claim", "Numbers (95% interval)", "p", "Verdict"], lines)


def _p(p: float) -> str:
    return "-" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
