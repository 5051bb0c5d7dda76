"""The published table of the Symbiosis paper against its own sentences, by arithmetic on the printed figures.

One run per method is published, so there is no interval over seeds: a sentence is contradicted if the figures do not
lie on its side at all, and supported if they do by more than 1.96 standard errors of the test set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from symbiosis.analysis.tables import PUBLISHED
from symbiosis.analysis.verdicts import CONTRADICTED, SHEET, SOURCES, SUPPORTED, UNDECIDED, Claim, combine

PUBLISHED_SCALE = "published"
GUESSING = 1 / 4  # AG News and the miniature have four classes
PUBLISHED_TEST_ROWS = 500  # the smallest test set that gives every published figure
OFFICIAL_TEST_ROWS = 7600  # of AG News
PUBLISHED_HEAD = f"""One run per method is published, so there is no interval over seeds. The verdict says whether
the published figures agree with the sentence: contradicted if they do not lie on the claimed side at all, supported if
they do by more than 1.96 standard errors (SE) of test sets of {PUBLISHED_TEST_ROWS} rows, undecided between. Figures
in percent, differences in points.

"""


@dataclass(frozen=True)
class Sum:
    """A weighted sum of published figures {'<arm> initial' | '<arm> final' | 'guessing': weight} and its side of 0."""

    weights: dict[str, float]
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


FIGURES = {"guessing": 100 * GUESSING} | {
    f"{arm} {when}": value
    for arm, pair in PUBLISHED.items()
    for when, value in zip(("initial", "final"), pair, strict=True)
}
PUBLISHED_SUMS = {  # claim: (test, sums that must all lie on their side)
    "below-real": ("Static - real, final.", (Sum({"static final": 1, "real final": -1}, -1),)),
    "beats-static": ("Symbiosis - static, final.", (Sum({"symbiosis final": 1, "static final": -1}, +1),)),
    "only-sustained": (
        "Final - initial is above 0 for symbiosis, and not for static.",
        (
            Sum({"symbiosis final": 1, "symbiosis initial": -1}, +1),
            Sum({"static final": 1, "static initial": -1}, -1),
        ),
    ),
    "recursive-drop": (
        "Recursive, final - initial, is below 0.",
        (Sum({"recursive final": 1, "recursive initial": -1}, -1),),
    ),
    "approaches-real": (
        "Symbiosis - (static + real) / 2, final, is above 0.",
        (Sum({"symbiosis final": 1, "static final": -0.5, "real final": -0.5}, +1),),
    ),
    "above-guessing": (
        "Symbiosis, final, is above the 25.00 of guessing among four classes.",
        (Sum({"symbiosis final": 1, "guessing": -1}, +1),),
    ),
}


def published_rows(claims: Sequence[Claim]) -> list[dict]:
    """Those of the claims that the published table itself decides, by arithmetic, as rows of the ledger."""
    chosen = [claim for claim in claims if claim.slug in PUBLISHED_SUMS]
    found = [*(_published_row(claim, *PUBLISHED_SUMS[claim.slug]) for claim in chosen), test_size_row()]
    return sorted(found, key=lambda row: SOURCES.index(row["source"]))


def _published_row(claim: Claim, test: str, sums: tuple[Sum, ...]) -> dict:
    whole = combine([one.verdict for one in sums])
    one = next(one for one in sums if one.verdict == whole)
    half = 1.96 * one.standard_error
    names = {"claim": claim.slug, "source": claim.source, "statement": claim.statement, "test": test}
    numbers = {"estimate": one.estimate, "low": one.estimate - half, "high": one.estimate + half}
    numbers = {name: value / 100 for name, value in numbers.items()}
    return _of_published(**names, **numbers, numbers="; ".join(s.in_words() for s in sums), verdict=whole)


def test_size_row() -> dict:
    """Can the published figures come from the official test set?"""
    odd = [x for x in _published_figures() if not is_share(x, OFFICIAL_TEST_ROWS)]
    near = [math.floor(odd[0] * OFFICIAL_TEST_ROWS / 100) + i for i in (0, 1)] if odd else []
    around = " and ".join(f"{k} rows give {100 * k / OFFICIAL_TEST_ROWS:.2f}" for k in near)
    fit = [n for n in range(1, 1501) if all(is_share(x, n) for x in _published_figures())]
    fifths = sum(math.isclose(5 * x, round(5 * x)) for x in _published_figures())
    numbers = f"{fifths} of {len(_published_figures())} figures are multiples of 0.2; "
    numbers += f"sizes up to 1500 that give them all: {', '.join(map(str, fit))}"
    numbers += f"; {odd[0]:.2f} is no share of {OFFICIAL_TEST_ROWS}: {around}" if odd else ""
    statement = f"The accuracies are those of the official test set of {OFFICIAL_TEST_ROWS:,} rows."
    test = "Every figure is a whole number of rows divided by the number of rows, to two decimals."
    names = {"claim": "test-size", "source": SHEET, "statement": statement, "test": test}
    return _of_published(**names, numbers=numbers, verdict=CONTRADICTED if odd else UNDECIDED)


def is_share(percent: float, n: int) -> bool:
    """Is there a whole number k with 100 k / n = percent, to two decimals?"""
    k = round(percent * n / 100)
    return f"{100 * k / n:.2f}" == f"{percent:.2f}"


def _published_figures() -> list[float]:
    return [value for pair in PUBLISHED.values() for value in pair]


def _of_published(**values) -> dict:
    return {"scale": PUBLISHED_SCALE, "study": "", "n": 1} | values
