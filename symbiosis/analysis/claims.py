"""The claims ledger: what the Symbiosis paper, its results sheet and this project say, and what the numbers say to it.

The claims stand in claims.yaml, which says what its verbs mean, and those of new studies, a line each, in ledger.yaml
beside the families of tests; `verdicts` has the rule that decides them. reports/claims.md is written from here.
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from symbiosis import small_studies
from symbiosis.analysis import hidden_states, verdicts
from symbiosis.analysis.interaction import STUDIES as INTERACTION_STUDIES
from symbiosis.analysis.interaction import beyond_baseline, rank_agreement, read_scan, scan_rows
from symbiosis.analysis.statistics import ALPHA, MARGIN, MIN_SEEDS
from symbiosis.analysis.tables import LAST, PUBLISHED_ACCURACY, SeedValues, arm_name, markdown_table, p_text
from symbiosis.analysis.verdicts import CONTRADICTED, FREE_SEEDS, SUPPORTED, UNDECIDED, Claim, Finding, Part
from symbiosis.settings import resolve
from symbiosis.store import results
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import ResultsError
from symbiosis.yaml_files import read_yaml

PUBLISHED_SCALE, THEORY_SCALE = "published", "linear_theory"
PUBLISHED_TEST_ROWS = 500  # the smallest test set that gives every published figure
REGIME_STUDY = "rare_tail"  # the named regime: the pool rarely shows what the test asks for
LEDGER = read_yaml(Path(__file__).with_name("ledger.yaml"))
SCALES = LEDGER["scales"]  # in the order of the ledger
FAMILIES = LEDGER["families"]  # name: correction, number of seeds, what it holds
CONFIRMATORY = "confirmatory"
LEDGER_COLUMNS = (
    "scale", "claim", "source", "statement", "test", "study", "family", "evidence", "numbers",
    "estimate", "low", "high", "n", "p", "p_holm", "corrected_low", "corrected_high",
    "margin", "p_equivalence", "verdict", "why",
)  # fmt: skip
NamedFormula = tuple[str, Callable[[SeedValues], pd.Series]]  # what the ledger calls the number, and the number

# ---- the verbs of claims.yaml


def largest_rise(values: SeedValues, arm: str, metric: str) -> pd.Series:
    """The largest change of a metric from one generation to the next, by seed; negative where it only falls."""
    by_generation = {g: values(arm, g, metric) for g in range(1, max(values.last, 1) + 1)}
    return pd.DataFrame(by_generation).dropna().diff(axis=1).max(axis=1)


QUANTITIES = {
    "final": lambda values, arm, metric: values(arm, LAST, metric),
    "largest_rise": largest_rise,
    "beyond_baseline": beyond_baseline,
}


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


def growth_beyond(arms: Sequence[str], since: int, metric: str = "accuracy") -> NamedFormula:
    """Growth of the first arm from generation `since` to the last, less that of the second in the same time."""
    arm, rival = (over_time(name, since, metric)[1] for name in arms)
    name = f"growth since generation {since}, {' - '.join(map(arm_name, arms))}"
    return name, lambda values: arm(values) - rival(values)


def over_teacher(arm: str) -> NamedFormula:
    """Final accuracy of the Student less the label accuracy the Generator began with."""
    name = f"{arm_name(arm)}, Student - Generator at generation 0"
    return name, lambda values: values(arm) - values(arm, 0, "generator_accuracy")


def gains(pairs: Sequence[Sequence[str]], less: Sequence[Sequence[str]], metric: str = "accuracy") -> NamedFormula:
    """Final value of a less b, mean over the pairs, minus the same of other pairs."""

    def mean(values: SeedValues, pairs: Sequence[Sequence[str]]) -> pd.Series:
        return sum(values(a, LAST, metric) - values(b, LAST, metric) for a, b in pairs) / len(pairs)

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


VERBS: dict[str, Callable[..., NamedFormula]] = {
    **dict.fromkeys(("lead", "trails", "ties"), between_arms),
    **dict.fromkeys(("rises", "falls", "stays"), over_time),
    "outgrows": growth_beyond,
    "beats_teacher": over_teacher,
    "gains": gains,
    "outlasts": early_falls,
    "tail_loses": tail_against_real,
    "follows_theory": lambda metric: (f"rank agreement of {metric}", lambda values: rank_agreement(values, metric)),
}
BELOW_ZERO = ("trails", "falls", "tail_loses")
OTHER_UNITS = ("outlasts", "tail_loses", "follows_theory")  # their numbers are no accuracies


def read_part(line: Mapping[str, Any]) -> Part:
    """A line of `parts`: its verb comes first, `name`, `above`, `within` and `margin` are for all verbs."""
    options = dict(line)
    verb = next(iter(options))
    name, above, within = options.pop("name", ""), options.pop("above", 0.0), options.pop("within", None)
    of_accuracy = options.get("metric", "accuracy") == "accuracy" and verb not in OTHER_UNITS
    margin = options.pop("margin", MARGIN if of_accuracy else 0.0)
    region = (-math.inf, 0.0) if verb in BELOW_ZERO else (above, math.inf) if within is None else (-within, within)
    own_name, formula = VERBS[verb](options.pop(verb), **options)
    return Part(name or own_name, formula, *region, margin)


def registered_claim(slug: str, line: Mapping[str, Any]) -> Claim:
    """A line of `registered` in ledger.yaml, which says how it reads; ResultsError names the key that is wrong."""
    where, own = f"ledger.yaml: registered: {slug}", set(line)
    needed, known = {"family", "study", "arm", "margin", "says"}, {"beats", "level_with", "metric", "scale"}
    if own - needed - known or needed - own or len(own & {"beats", "level_with"}) != 1:
        raise ResultsError(f"{where}: give {', '.join(sorted(needed))}, and either beats or level_with: [rivals]")
    for key, among in (("family", FAMILIES), ("scale", SCALES)):
        if key in line and line[key] not in among:
            raise ResultsError(f"{where}: {key}: '{line[key]}' is not among those named above it; add it there")
    if not 0 < line["margin"] < 1:
        raise ResultsError(f"{where}: margin: {line['margin']!r}; a number above 0 and below 1, 0.02 is 2 points")
    rivals, given = line.get("beats", line.get("level_with")), {key: line[key] for key in own & {"margin", "metric"}}
    verb, region = "lead", "is above 0"
    if "level_with" in line:
        verb, region = "ties", f"lies within {line['margin']:g} on either side of 0"
        given["within"] = line["margin"]
    parts = [read_part({verb: [line["arm"], rival], **given}) for rival in rivals]
    names = " and ".join(part.name for part in parts)
    test = f"{names}, final {line.get('metric', 'accuracy')}, seed by seed, {region}."
    options = {"study": line["study"], "family": line["family"], "scale": line.get("scale", "")}
    return Claim(slug, "this project", line["says"], test, tuple(parts), **options)


def read_claims() -> tuple[Claim, ...]:
    """The claims of claims.yaml in its order, then those registered in ledger.yaml."""
    by_source = read_yaml(Path(__file__).with_name("claims.yaml"))
    claims = []
    for source, of_source in by_source.items():
        for slug, template in of_source.items():
            for words in template.pop("each", [{}]):
                entry = filled(template, words)
                each, lines = entry.pop("each_part", [{}]), entry.pop("parts", [])
                parts = tuple(read_part(filled(line, w)) for w in each for line in lines)
                claims.append(Claim(filled(slug, words), source, parts=parts, **entry))
    return (*claims, *(registered_claim(*entry) for entry in (LEDGER["registered"] or {}).items()))


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

    Columns: scale, claim (slug), source, statement, test, study; family (of tests, as in FAMILIES), evidence
    (confirmatory, exploratory, or published); numbers (every part, as text); then of the part that decides: estimate,
    low, high (95% over seeds), n seeds, p; p_holm and the interval corrected_low, corrected_high by which the verdict
    goes (over all parts of all claims of the family in this scale), margin and p_equivalence (two one-sided tests; a
    region with two ends is its own margin); verdict, why (of what is undecided). Accuracies are shares, losses nats.

    Raises ResultsError where results.csv is missing or damaged.
    """
    path = resolve(reports_dir) / "results.csv"
    if not path.is_file():
        raise ResultsError(f"{path}: no such file; {results.HOW_TO_MAKE}")
    run = set(results.read_table(path)["scale"])
    rows = [published_row(claim) for claim in CLAIMS if claim.published]
    for scale in SCALES:
        if scale in run:
            rows += scale_rows(scale, results.read_studies(reports_dir, scale))
        elif scale == THEORY_SCALE and (path.parent / "mixtures.csv").is_file():
            rows += scale_rows(scale, {"mixtures": scan_rows(read_scan(reports_dir))})
        elif scale == small_studies.SCALE and (path.parent / small_studies.TABLE).is_file():
            rows += scale_rows(scale, small_studies.by_study(reports_dir))
    return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS))


def scale_rows(scale: str, studies: Mapping[str, pd.DataFrame]) -> list[dict]:
    """Claims that a scale can speak to, against its studies {study: rows with `arm`}, corrected family by family."""
    nothing = pd.DataFrame(columns=["arm", "seed", "generation", "metric", "value"])
    claims, judged = asked_of(studies, scale), {}
    values = {study: SeedValues(studies.get(study, nothing)) for study in {claim.study for claim in claims}}
    for family in dict.fromkeys(claim.family for claim in claims):
        of_family = [claim for claim in claims if claim.family == family]
        measured = [verdicts.measure(part, values[claim.study]) for claim in of_family for part in claim.parts]
        findings = iter(verdicts.judge(measured, FAMILIES[family].get("seeds", 0)))
        judged |= {claim.slug: list(itertools.islice(findings, len(claim.parts))) for claim in of_family}
    return [_ledger_row(scale, claim, judged[claim.slug]) for claim in claims]


def asked_of(studies: Mapping[str, pd.DataFrame], scale: str = "") -> list[Claim]:
    """Claims about interaction, and about small studies, where these are (with nothing else), all others elsewhere."""
    alone = (
        {"mixtures": "mixtures"}
        | dict.fromkeys(INTERACTION_STUDIES, "interaction")
        | dict.fromkeys(small_studies.STUDIES, "small")
    )
    kinds = {alone.get(study, "") for study in studies} or {""}
    here = [claim for claim in CLAIMS if claim.parts and claim.scale in ("", scale)]
    return [claim for claim in here if alone.get(claim.study, "") in kinds]


def _ledger_row(scale: str, claim: Claim, findings: Sequence[Finding]) -> dict:
    if claim.undecidable:
        findings = [replace(one, verdict=UNDECIDED, why=verdicts.NOT_DECIDABLE) for one in findings]
    verdict = verdicts.combine([finding.verdict for finding in findings])
    one = findings[verdicts.deciding(verdict, findings)]
    n = len(one.values)
    sure = claim.family != verdicts.EXPLORATORY and n == FAMILIES[claim.family].get("seeds", n) >= FREE_SEEDS
    names = {"scale": scale, "claim": claim.slug, "source": claim.source, "statement": claim.statement}
    in_text = [*map(verdicts.in_words, findings), *[f"not decidable: {claim.undecidable}"] * bool(claim.undecidable)]
    names |= {"test": claim.test, "study": claim.study, "family": claim.family}
    names |= {"evidence": CONFIRMATORY if sure else verdicts.EXPLORATORY, "numbers": "; ".join(in_text)}
    numbers = {name: getattr(one, name) for name in ("estimate", "low", "high", "p", "p_holm", "p_equivalence")}
    numbers |= {"n": n, "corrected_low": one.corrected[0], "corrected_high": one.corrected[1]}
    numbers["margin"] = one.part.high if verdicts.both_ends(one.part) else one.part.margin or math.nan
    return names | numbers | {"verdict": verdict, "why": verdicts.reason(findings)}


# ---- the published table against its own sentences

PUBLISHED_FIGURES = {"guessing": 25.0} | {  # in percent; AG News has four classes
    f"{arm} {when}": value
    for arm, pair in PUBLISHED_ACCURACY.items()
    for when, value in zip(("initial", "final"), pair, strict=True)
}


def published_row(claim: Claim) -> dict:
    """The ledger's row of a claim that the published table itself decides, by arithmetic on its figures."""
    row = {"scale": PUBLISHED_SCALE, "claim": claim.slug, "source": claim.source, "statement": claim.statement}
    row |= {"test": claim.published.get("test", claim.test), "study": "", "evidence": PUBLISHED_SCALE}
    row |= {"n": 1, "why": ""}
    if "numbers" in claim.published:
        return row | {name: claim.published[name] for name in ("numbers", "verdict")}
    sums = [published_sum(side, weights) for one in claim.published["sums"] for side, weights in one.items()]
    whole = verdicts.combine([one["verdict"] for one in sums])
    bounds = next(one for one in sums if one["verdict"] == whole)
    return row | bounds | {"numbers": "; ".join(one["numbers"] for one in sums)}


def published_sum(side: str, weights: Mapping[str, float]) -> dict:
    """A weighted sum of published figures {'<arm> initial' | '<arm> final' | 'guessing': weight}, as shares.

        standard error = sqrt(sum_i w_i^2 x_i (100 - x_i) / PUBLISHED_TEST_ROWS) points, of independent draws of rows

    side: 'above' or 'below' 0: contradicted where the sum is not on that side at all, supported from 1.96 standard
    errors on. 'near' 0: supported where the sum and 1.96 standard errors on either side lie within MARGIN, contradicted
    where they lie wholly outside. `numbers` is the sum as one does it by hand.
    """
    total = sum(weight * PUBLISHED_FIGURES[name] for name, weight in weights.items())
    measured = [(weight, PUBLISHED_FIGURES[name]) for name, weight in weights.items() if name != "guessing"]
    error = math.sqrt(sum(w**2 * x * (100 - x) for w, x in measured) / PUBLISHED_TEST_ROWS)
    beyond, reach = {"above": total, "below": -total, "near": 100 * MARGIN - abs(total)}[side], 1.96 * error
    wrong = beyond < -reach if side == "near" else beyond <= 0
    verdict = CONTRADICTED if wrong else SUPPORTED if beyond > reach else UNDECIDED
    factors = {name: f"{abs(w):g} x " if abs(w) != 1 else "" for name, w in weights.items()}
    terms = [("- " if w < 0 else "+ ") + f"{factors[x]}{PUBLISHED_FIGURES[x]:.2f} ({x})" for x, w in weights.items()]
    words = f"{' '.join(terms).removeprefix('+ ')} = {total:+.2f} points ({total / error:+.1f} SE of {error:.1f})"
    bounds = {"estimate": total, "low": total - reach, "high": total + reach}
    return {name: value / 100 for name, value in bounds.items()} | {"verdict": verdict, "numbers": words}


# ---- the ledger as people read it
def markdown(ledger: pd.DataFrame) -> str:
    """The ledger as the text of claims.md: the rule, a table per scale, and how each claim is decided."""
    sections = [_section(scale, rows) for scale, rows in ledger.groupby("scale", sort=False)]
    ours = ledger[ledger["scale"] != PUBLISHED_SCALE].drop_duplicates("claim")
    tests = [[f"`{row.claim}`", row.test, row.study] for row in ours.itertuples()]
    end = ["## How each claim is decided\n\n" + markdown_table(["Claim", "Test", "Study"], tests)] if tests else []
    families = [f"* `{name}`: {entry['says']}" for name, entry in FAMILIES.items()]
    head = LEDGER["head"].format(min_seeds=MIN_SEEDS, free_seeds=FREE_SEEDS, families="\n".join(families))
    return head + "\n" + "\n".join(sections + end)


def write_claims(reports_dir: str | Path) -> Path:
    """Write `claims.md` beside results.csv, the same bytes for the same results; returns its path."""
    path = resolve(reports_dir) / "claims.md"
    write_atomic(path, markdown(ledger(reports_dir)).encode())
    return path


def _section(scale: str, rows: pd.DataFrame) -> str:
    text = f"## {SCALES.get(scale, scale)} (`{scale}`)\n\n"
    if scale == PUBLISHED_SCALE:
        lines = [[r.source, f"{r.statement} `{r.claim}`", r.test, r.numbers, r.verdict] for r in rows.itertuples()]
        table = markdown_table(["Source", "Claim", "Test", "Numbers", "Verdict"], lines)
        return f"{text}{_tally(rows)}\n\n{LEDGER['published_head'].format(test_rows=PUBLISHED_TEST_ROWS)}\n{table}"
    lacking = rows["numbers"].map(lambda numbers: all(": not run: " in part for part in numbers.split("; ")))
    run = rows[~lacking]
    for (evidence, family), part in run.groupby(["evidence", "family"]):
        words = "Exploratory" if evidence == family else f"{evidence.capitalize()}, family `{family}`"
        lines = [[r.source, f"{r.statement} `{r.claim}`", r.numbers, _interval(r), p_text(r.p_holm), _verdict(r)]
                 for r in part.itertuples()]  # fmt: skip
        columns = ["Source", "Claim", "Numbers (95% interval)", "Corrected interval", "p", "Verdict"]
        text += f"**{words}.** {_tally(part)}\n\n{markdown_table(columns, lines)}\n"
    few = run[(run["verdict"] != UNDECIDED) & (run["n"] < FREE_SEEDS)]
    alone = run[(run["p"] < ALPHA) & (run["p_holm"] >= ALPHA) & (run["why"] != verdicts.NOT_DECIDABLE)]
    lists = {
        f"Decided on fewer than {FREE_SEEDS} seeds, to be run again on 20": few,
        "Decided before the correction and not after it": alone,
        "Not run": rows[lacking],
    }
    named = {words: ", ".join(f"`{claim}`" for claim in some["claim"]) for words, some in lists.items()}
    return text + "\n".join(f"{words}: {slugs}.\n" for words, slugs in named.items() if slugs)


def _tally(rows: pd.DataFrame) -> str:
    counts = rows["verdict"].value_counts()
    return ", ".join(f"{counts[name]} {name}" for name in (SUPPORTED, CONTRADICTED, UNDECIDED) if name in counts) + "."


def _interval(row: Any) -> str:
    return "-" if math.isnan(row.corrected_low) else f"[{row.corrected_low:+.3f}, {row.corrected_high:+.3f}]"


def _verdict(row: Any) -> str:
    tested = row.p_equivalence < ALPHA  # nan: it was not
    notes = "; ".join(filter(None, (row.why, tested and f"within {row.margin:g}: p {p_text(row.p_equivalence)}")))
    return row.verdict + (f" ({notes})" if notes else "")
