"""A false fact among entities that read one another: seconds a seed."""

import numpy as np
import pandas as pd

from symbiosis.small_studies import table
from symbiosis.theory.consensus import ROWS, simulate_spread

ROUNDS = 40
EQUAL, LOUD = (1 / 4,) * 4, (1 / 2, 1 / 6, 1 / 6, 1 / 6)
PLANTED = {  # voices of the entities, the liar's first; true public rows per false private one; whether they vote
    "no_truth": (EQUAL, 0.0, False),
    "truth": (EQUAL, 1.0, False),
    "truth_loud": (LOUD, 1.0, False),
    "truth_vote": (EQUAL, 1.0, True),
}


def planted_error(seed: int) -> pd.DataFrame:
    """The share of written rows about a fact that repeat the lie, and who believes it, by round; where theory ends."""
    lines = []
    for i, (variant, (voices, public, vote)) in enumerate(PLANTED.items()):
        rng = np.random.default_rng([seed, 10 + i])
        found = simulate_spread(voices, ROUNDS, public=public, vote=vote, rng=rng)
        for t in [*range(11), ROUNDS]:
            told = {"repeated": found["share"][t], "liar": found["belief"][t, 0], "other": found["belief"][t, 1:]}
            told["other"] = np.nanmean(told["other"]) if np.isfinite(told["other"]).any() else np.nan
            lines += [("planted", variant, seed, t, f"belief_{name}", v, ROWS) for name, v in told.items()]
        if not vote:
            end = voices[0] / (voices[0] + public)  # `spread` at beta = 0.5
            lines.append(("closed_form", variant, seed, ROUNDS, "belief_repeated", end, ROWS))
    return table("planted_error", lines).dropna(subset="value")
