"""Make small studies; see the package."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

import pandas as pd

from symbiosis import params
from symbiosis.errors import SymbiosisError
from symbiosis.small_studies import STUDIES, left, publish
from symbiosis.store.results import NotRun

AT_ONCE = ("beyond_language",)  # whose function takes all seeds
OF_RUNS = ("open_ended",)  # of SECONDS


def function(study: str) -> Callable[..., pd.DataFrame]:
    """What makes its rows; NotRun for a study that is none."""
    if study not in STUDIES:
        raise NotRun(f"no small study is named '{study}'; there are {', '.join(STUDIES)}, and all")
    return getattr(import_module(f"symbiosis.small_studies.{study}"), study)


def make(study: str, seed: int | Sequence[int], *folders: str) -> pd.DataFrame:
    """The rows of a seed, or of several."""
    return function(study)(seed, *folders)


def make_here(seeds: int) -> None:
    """What is `left`, into the local table, from the local runs."""
    for study, seed in left(seeds):
        print(f"{study}, seed {seed}", flush=True)
        try:
            publish(make(study, seed, *[params.LOCAL] * (study in OF_RUNS)), params.LOCAL)
        except NotRun as reason:
            print(f"left out: {reason}")


def main(words: Sequence[str]) -> None:
    match words:
        case ["all", seeds]:
            make_here(int(seeds))
        case [study, first, last, *folders]:
            seeds = range(int(first), int(last) + 1)
            for seed in [seeds] if study in AT_ONCE else seeds:
                publish(make(study, seed, *folders))
        case _:
            raise NotRun("give a study, its first and last seed, and folders with runs; or all, and how many seeds")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SymbiosisError as error:
        sys.exit(str(error))
