"""What the rule says to a single part, which has no family to be corrected with."""

import pandas as pd

from symbiosis.analysis import verdicts
from symbiosis.analysis.tables import SeedValues


def decide(part: verdicts.Part, rows: pd.DataFrame) -> verdicts.Finding:
    return verdicts.judge([verdicts.measure(part, SeedValues(rows))])[0]
