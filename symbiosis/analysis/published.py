"""The published table of the Symbiosis paper against its own sentences, by arithmetic on the printed figures.

One run per method is published, so there is no interval over seeds: a sentence is contradicted if the figures do not
lie on its side at all, and supported if they do by more than 1.96 standard errors of the test set.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from symbiosis.analysis.tables import PUBLISHED
from symbiosis.analysis.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, Claim, combine

PUBLISHED_SCALE = "published"
PUBLISHED_TEST_ROWS = 500  # the smallest test set that gives every published figure
OFFICIAL_TEST_ROWS = 7600  # of AG News
PUBLISHED_HEAD = f"""One run per method is published, so there is no interval over seeds. The verdict says whether
the published figures agree with the sentence: contradicted if they do not lie on the claimed side at all, supported if
they do by more than 1.96 standard errors (SE) of test sets of {PUBLISHED_TEST_ROWS} rows, undecided between. Figures
in percent, differences in points.

"""
FIGURES = {"guessing": 25.0} | {  # in percent; AG News has four classes
    f"{arm} {when}": value
    for arm, pair in PUBLISHED.items()
    for when, value in zip(("initial", "final"), pair, strict=True)
}


@dataclass(frozen=True)
class FigureSum:
    """A weighted sum of published figures {'<arm> initial' | '<arm> final' | 'guessing': weight} and its side of 0."""

    weights: Mapping[str, float]
    side: int  # +1: the claim puts it above 0; -1: below

    @property
    def estimate(self) -> float:
        """In points."""
        return sum(weight * FIGURES[name] for name, weight in self.weights.items())

    @property
    def standard_error(self) -> float:
        """In points, of independent draws of PUBLISHED_TEST_ROWS test rows: sqrt(sum_i w_i^2 x_i (100 - x_i) / n)."""
        measured = [(weight, FIGURES[name]) for name, weight in self.weights.items() if name != "guessing"]
        return math.sqrt(sum(w**2 * x * (100 - x) for w, x in measured) / PUBLISHED_TEST_ROWS)

    @property
    def verdict(self) -> str:
        """Contradicted where the figure is not on the claimed side at all; supported from 1.96 standard errors on."""
        if self.side * self.estimate <= 0:
            return CONTRADICTED
        return SUPPORTED if self.side * self.estimate > 1.96 * self.standard_error else UNDECIDED

    def in_words(self) -> str:
        """The sum as one does it by hand."""
        factors = {name: f"{abs(w):g} x " if abs(w) != 1 else "" for name, w in self.weights.items()}
        terms = [("- " if w < 0 else "+ ") + f"{factors[x]}{FIGURES[x]:.2f} ({x})" for x, w in self.weights.items()]
        in_errors = f"{self.estimate / self.standard_error:+.1f} SE of {self.standard_error:.1f}"
        return f"{' '.join(terms).removeprefix('+ ')} = {self.estimate:+.2f} points ({in_errors})"


def published_rows(claims: Sequence[Claim]) -> list[dict]:
    """Those of the claims that the published table itself decides, by arithmetic, as rows of the ledger."""
    sources = list(dict.fromkeys(claim.source for claim in claims))
    rows = [*(_published_row(claim) for claim in claims if claim.published), size_row()]
    return sorted(rows, key=lambda row: sources.index(row["source"]))


def _published_row(claim: Claim) -> dict:
    sides = {"above": +1, "below": -1}
    sums = [FigureSum(weights, sides[side]) for one in claim.published["sums"] for side, weights in one.items()]
    whole = combine([one.verdict for one in sums])
    one = next(one for one in sums if one.verdict == whole)
    half = 1.96 * one.standard_error
    bounds = {"estimate": one.estimate, "low": one.estimate - half, "high": one.estimate + half}
    return {
        "scale": PUBLISHED_SCALE, "claim": claim.slug, "source": claim.source, "statement": claim.statement,
        "test": claim.published["test"], "study": "", "numbers": "; ".join(one.in_words() for one in sums),
        **{name: value / 100 for name, value in bounds.items()}, "n": 1, "verdict": whole,
    }  # fmt: skip


def size_row() -> dict:
    """Can the published figures come from the official test set?"""
    figures = [value for pair in PUBLISHED.values() for value in pair]
    odd = [x for x in figures if not is_share(x, OFFICIAL_TEST_ROWS)]
    near = [math.floor(odd[0] * OFFICIAL_TEST_ROWS / 100) + i for i in (0, 1)] if odd else []
    around = " and ".join(f"{k} rows give {100 * k / OFFICIAL_TEST_ROWS:.2f}" for k in near)
    sizes = [n for n in range(1, 1501) if all(is_share(x, n) for x in figures)]
    fifths = sum(math.isclose(5 * x, round(5 * x)) for x in figures)
    numbers = f"{fifths} of {len(figures)} figures are multiples of 0.2; "
    numbers += f"sizes up to 1500 that give them all: {', '.join(map(str, sizes))}"
    numbers += f"; {odd[0]:.2f} is no share of {OFFICIAL_TEST_ROWS}: {around}" if odd else ""
    return {
        "scale": PUBLISHED_SCALE, "claim": "test-size", "source": "this project",
        "statement": f"The accuracies are those of the official test set of {OFFICIAL_TEST_ROWS:,} rows.",
        "test": "Every figure is a whole number of rows divided by the number of rows, to two decimals.",
        "study": "", "numbers": numbers, "n": 1, "verdict": CONTRADICTED if odd else UNDECIDED,
    }  # fmt: skip


def is_share(percent: float, n: int) -> bool:
    """Is there a whole number k with 100 k / n = percent, to two decimals?"""
    k = round(percent * n / 100)
    return f"{100 * k / n:.2f}" == f"{percent:.2f}"
