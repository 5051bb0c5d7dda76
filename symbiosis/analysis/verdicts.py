"""The rule of the claims ledger: what a claim is made of, and the verdict that numbers over seeds give it.

A claim is made of parts. A part is one number per seed and the region the claim puts it in, (low, high); its verdict
follows from the t-interval over seeds at the level that Holm's correction of its family asks (`holm_levels`):

    supported     the corrected interval lies inside the region
    contradicted  it lies outside of it
    undecided     otherwise, and why:
        equivalent     it lies across an end of the region and within the part's margin of it: two one-sided tests
        imprecise      it is wider than that, or there are fewer than MIN_SEEDS seeds
        not run        an arm is missing, or seeds of those that were fixed beforehand
        not decidable  the numbers cannot show it, whatever they are

A claim is supported if all of its parts are, and contradicted if one is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from symbiosis.analysis.statistics import MIN_SEEDS, equivalence_p, holm, holm_levels, mean_interval, paired_row
from symbiosis.analysis.tables import SeedValues

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
EQUIVALENT, IMPRECISE, NOT_RUN, NOT_DECIDABLE = "equivalent", "imprecise", "not run", "not decidable"
REASONS = (NOT_DECIDABLE, NOT_RUN, IMPRECISE, EQUIVALENT)  # of several, an undecided claim has the first
EXPLORATORY = "exploratory"  # the family of all that was not registered in one of its own
FREE_SEEDS = 6  # with fewer a test that assumes no normal differences (sign flips, p >= 2^(1 - n)) cannot reach .05


@dataclass(frozen=True)
class Part:
    """One number per seed, `formula(values)`, the region (low, high) the claim puts its mean in, the margin of no odds.

    margin: distance from an end of the region that is as good as none, in the unit of the number; 0: not said.
    """

    name: str
    formula: Callable[[SeedValues], pd.Series]
    low: float = 0.0
    high: float = math.inf
    margin: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A sentence of the field, the test that decides it, and the parts that must all hold in one study."""

    slug: str
    source: str
    statement: str
    test: str
    parts: tuple[Part, ...]
    study: str = "main"
    family: str = EXPLORATORY  # of those in ledger.yaml
    scale: str = ""  # the only one it speaks of; '': all
    undecidable: str = ""  # why no verdict may follow from the numbers
    published: Mapping[str, Any] | None = None  # what the paper's own table says to it


@dataclass(frozen=True)
class Finding:
    """What the rows say to a part: mean over seeds, 95% interval, two-sided p (nan: not tested), then the corrected.

    p_equivalence: of two one-sided tests that the mean lies in the region, where it has two ends, or else within the
    margin of the nearest end.
    """

    part: Part
    values: pd.Series
    missing: tuple[str, ...] = ()
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_equivalence: float = math.nan
    p_holm: float = math.nan
    corrected: tuple[float, float] = (math.nan, math.nan)
    verdict: str = UNDECIDED
    why: str = NOT_RUN  # of what is undecided


def measure(part: Part, seed_values: SeedValues) -> Finding:
    """Mean of the part over seeds, its 95% t-interval and p, before any correction and without a verdict.

    p is two-sided, of the t-test of the mean against that end of the region that lies nearest: p < 0.05 exactly where
    the interval decides. For a region with two ends that is the larger p of the two one-sided tests, doubled.
    """
    seed_values.missing = []
    values = part.formula(seed_values).dropna().sort_index()
    found = Finding(part, values, tuple(dict.fromkeys(seed_values.missing)), *mean_interval(values))
    if found.missing or len(values) < MIN_SEEDS:
        return found
    edge = nearest_end(part, found.estimate)
    near = (part.low, part.high) if both_ends(part) else (edge - part.margin, edge + part.margin)
    p_equivalence = equivalence_p(values, *near) if near[0] < near[1] else math.nan
    return replace(found, p=paired_row(values, edge)[-1], p_equivalence=p_equivalence)


def judge(findings: Sequence[Finding], seeds: int = 0) -> list[Finding]:
    """The findings of one family with their corrected p, interval and verdict.

    seeds: how many were fixed beforehand; with fewer nothing is decided, nor counted. 0: none were.
    """
    whole = [not f.missing and len(f.values) >= max(seeds, MIN_SEEDS) for f in findings]
    p_values = [f.p if ok else math.nan for f, ok in zip(findings, whole, strict=True)]
    judged = []
    for f, ok, p, level in zip(findings, whole, holm(p_values), holm_levels(p_values), strict=True):
        if ok:
            interval = mean_interval(f.values, level)[1:]
            says = verdict(*interval, f.part)
            why = "" if says != UNDECIDED else EQUIVALENT if within_margin(*interval, f.part) else IMPRECISE
            f = replace(f, p_holm=float(p), corrected=interval, verdict=says, why=why)
        elif not f.missing and 0 < len(f.values) >= seeds:
            f = replace(f, why=IMPRECISE)
        judged.append(f)
    return judged


def nearest_end(part: Part, mean: float) -> float:
    """The end of the part's region that lies nearest to the mean."""
    return min((part.low, part.high), key=lambda end: abs(mean - end))


def both_ends(part: Part) -> bool:
    return math.isfinite(part.low) and math.isfinite(part.high)


def verdict(low: float, high: float, part: Part) -> str:
    """Where the interval [low, high] lies: inside the region of the part, outside, or across an end of it."""
    if part.low < low and high < part.high:
        return SUPPORTED
    return CONTRADICTED if high < part.low or low > part.high else UNDECIDED


def within_margin(low: float, high: float, part: Part) -> bool:
    """Does the interval lie within the margin of that end of the region that it lies across?"""
    edge = nearest_end(part, (low + high) / 2)
    return not both_ends(part) and edge - part.margin < low and high < edge + part.margin


def combine(verdicts: Sequence[str]) -> str:
    """A claim needs all of its parts."""
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else UNDECIDED


def reason(findings: Sequence[Finding]) -> str:
    """Why a claim of these findings is undecided; '' where it is not."""
    undecided = combine([finding.verdict for finding in findings]) == UNDECIDED
    return next(name for name in REASONS if name in {finding.why for finding in findings}) if undecided else ""


def deciding(whole: str, findings: Sequence[Finding]) -> int:
    """Which finding decides: the strongest against a contradicted claim, else the weakest of those with its verdict."""
    p = np.array([math.inf if math.isnan(f.p) else f.p for f in findings])
    chosen = [i for i, f in enumerate(findings) if f.verdict == whole]
    return min(chosen, key=lambda i: p[i]) if whole == CONTRADICTED else max(chosen, key=lambda i: p[i])


def in_words(finding: Finding) -> str:
    """Estimate, 95% interval and seeds; the number of each seed where they are too few; or what is missing."""
    name, values = finding.part.name, finding.values
    if finding.missing:
        return f"{name}: not run: {' and '.join(finding.missing)}"
    if len(values) >= MIN_SEEDS:
        words = f"{name}: {finding.estimate:+.3f} [{finding.low:+.3f}, {finding.high:+.3f}], n = {len(values)}"
        return words + (" (fewer than were fixed)" if finding.why == NOT_RUN else "")
    single = ", ".join(f"{value:+.3f} (seed {seed})" for seed, value in values.items())
    return f"{name}: {single or 'no seed has all of it'}"
