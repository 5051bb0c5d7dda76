"""The rule of the claims ledger: what a claim is made of, and the verdict that numbers over seeds give it.

A claim is made of parts. A part is one number per seed and the region the claim puts it in, (low, high); its verdict
follows from the 95% t-interval over seeds alone:

    supported     the interval lies inside the region
    contradicted  the interval lies outside of it
    undecided     otherwise, with fewer than MIN_SEEDS seeds, where an arm was not run, or the numbers cannot show it

A claim is supported if all of its parts are, and contradicted if one is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from symbiosis.analysis.statistics import MIN_SEEDS, mean_interval, paired_row
from symbiosis.analysis.tables import SeedValues

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"


@dataclass(frozen=True)
class Part:
    """One number per seed, `formula(values)`, and the region (low, high) the claim puts its mean in."""

    name: str
    formula: Callable[[SeedValues], pd.Series]
    low: float = 0.0
    high: float = math.inf


@dataclass(frozen=True)
class Claim:
    """A sentence of the field, the test that decides it, and the parts that must all hold in one study."""

    slug: str
    source: str
    statement: str
    test: str
    parts: tuple[Part, ...]
    study: str = "main"
    undecidable: str = ""  # why no verdict may follow from the numbers
    published: Mapping[str, Any] | None = None  # what the paper's own table says to it


@dataclass(frozen=True)
class Finding:
    """What the rows say to a part: mean over seeds, 95% interval, two-sided p (nan: not tested), verdict."""

    part: Part
    values: pd.Series
    missing: list[str]
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    verdict: str = UNDECIDED


def decide(part: Part, rows: pd.DataFrame) -> Finding:
    """Mean of the part over seeds, its 95% t-interval, and what they say.

    p is two-sided, of the t-test of the mean against that end of the region that lies nearest: p < 0.05 exactly where
    the interval decides. For a region with two ends that is the larger p of the two one-sided tests, doubled.

    Equivalence by two one-sided tests: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15:657.
    """
    seed_values = SeedValues(rows)
    values = part.formula(seed_values).dropna().sort_index()
    mean, low, high = mean_interval(values)
    if seed_values.missing or len(values) < MIN_SEEDS:
        return Finding(part, values, list(dict.fromkeys(seed_values.missing)), mean, low, high)
    edge = min((part.low, part.high), key=lambda end: abs(mean - end))
    return Finding(part, values, [], mean, low, high, paired_row(values, edge)[-1], verdict(low, high, part))


def verdict(low: float, high: float, part: Part) -> str:
    """Where the interval [low, high] lies: inside the region of the part, outside, or across an end of it."""
    if part.low < low and high < part.high:
        return SUPPORTED
    return CONTRADICTED if high < part.low or low > part.high else UNDECIDED


def combine(verdicts: Sequence[str]) -> str:
    """A claim needs all of its parts."""
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else UNDECIDED


def deciding(whole: str, findings: list[Finding]) -> int:
    """Which finding decides: the strongest against a contradicted claim, else the weakest of those with its verdict."""
    p = np.array([math.inf if math.isnan(f.p) else f.p for f in findings])
    chosen = [i for i, f in enumerate(findings) if f.verdict == whole]
    return min(chosen, key=lambda i: p[i]) if whole == CONTRADICTED else max(chosen, key=lambda i: p[i])


def in_words(finding: Finding) -> str:
    """Estimate, interval and seeds; the number of each seed where they are too few; or what is missing."""
    name, values = finding.part.name, finding.values
    if finding.missing:
        return f"{name}: not run: {' and '.join(finding.missing)}"
    if len(values) >= MIN_SEEDS:
        return f"{name}: {finding.estimate:+.3f} [{finding.low:+.3f}, {finding.high:+.3f}], n = {len(values)}"
    single = ", ".join(f"{value:+.3f} (seed {seed})" for seed, value in values.items())
    return f"{name}: {single or 'no seed has all of it'}"
