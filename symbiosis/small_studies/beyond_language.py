"""A Gaussian mixture and VAEs that train on their own samples, with the shares of the miniature: two minutes in all."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from symbiosis.data.world import LABEL_NAMES, zipf
from symbiosis.models.vae import simulate_vae
from symbiosis.small_studies import table
from symbiosis.theory.mixtures import POINTS, Source, simulate_mixture
from symbiosis.theory.next_token import types_alive

GENERATIONS = 10
CHAINS = {"plain": {}, "cut": {"kept": 0.9}, "cut_real_25": {"kept": 0.9, "real_share": 0.25}}


def beyond_language(seeds: Sequence[int]) -> pd.DataFrame:
    """Measures of generations 1..G of both models, three chains each, and what counting alone would leave.

    The autoencoders of all seeds are trained side by side, from weights of the first one: all at once, then.
    """
    shares, k = np.tile(zipf(6), len(LABEL_NAMES)) / len(LABEL_NAMES), len(zipf(6)) * len(LABEL_NAMES)
    tail, lines = np.arange(k) % 6 >= 2, []
    sources = [Source.make(shares, tail, np.random.default_rng([seed, 1])) for seed in seeds]
    counted = types_alive(shares, GENERATIONS + 1, tokens=POINTS, types=tail)[2:] / tail.sum()
    vaes = simulate_vae(sources, GENERATIONS, CHAINS, seed=seeds[0])
    for i, (variant, chain) in enumerate(CHAINS.items()):
        drawn = [np.random.default_rng([seed, 2 + i]) for seed in seeds]
        mixtures = [simulate_mixture(s, GENERATIONS, rng=rng, **chain) for s, rng in zip(sources, drawn, strict=True)]
        both = {"mixture": mixtures, "vae": vaes[variant]}
        lines += [
            (method, variant, seed, t, metric, value, POINTS)
            for method, chains in both.items()
            for seed, found in zip(seeds, chains, strict=True)
            for t, measured in enumerate(found, 1)
            for metric, value in measured.items()
        ]
    lines += [("counted", "plain", s, t, "tail_coverage", v, POINTS) for s in seeds for t, v in enumerate(counted, 1)]
    return table("beyond_language", lines)
