"""A `Task`: labelled train, unlabeled pool, dev and test; from the miniature, a local folder or the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, disable_progress_bars
from tqdm.auto import tqdm

from symbiosis.data.characters import match_key
from symbiosis.data.labelled import read
from symbiosis.data.readers import DataError
from symbiosis.data.world import World
from symbiosis.settings import RunSettings, derive_seed, fingerprint

disable_progress_bars()  # a bar for every column added says nothing here


@dataclass(frozen=True)
class Task:
    """What there is to learn, already split. `pool` has no label column, so no method can read one by mistake."""

    name: str  # 'miniature', 'ag_news', ...
    source: str  # where the rows come from: 'miniature', the folder, or 'id@commit'
    label_names: tuple[str, ...]
    train: Dataset  # text, label, source_id
    dev: Dataset  # text, label, source_id
    test: Dataset  # text, label, source_id
    pool: Dataset  # text, source_id
    overlap: dict[str, int]  # rows removed: 'equals_test' (also in the test), 'repeated' (again outside the test)
    cleaned: dict[str, int]  # repairs by kind, over all rows read
    world: World | None  # the known truth behind the miniature, for measuring and never for teaching
    fingerprint: str  # eight hex digits over every row of every split
    data: str = ""  # the same over all rows read, for every seed alike; '' for the miniature, a world for every seed


def load_task(settings: RunSettings) -> Task:
    """The task named in the settings, split by its seed; no text of the test file is anywhere else."""
    source = read(settings)
    test_keys = set(source.test["text"].map(match_key))  # of the whole file, so that test_size does not matter here
    rest, overlap = remove_overlap(source.rest, test_keys)
    world = World.make(settings.seed) if settings.task == "miniature" else None
    if not world and sum(overlap.values()):
        tqdm.write(
            f"{source.name}: of {len(source.rest):,} training rows {overlap['equals_test']:,} dropped as also in the "
            f"test, {overlap['repeated']:,} as repeated"
        )
    parts = split(rest, settings, source.name, world) | {"test": _subset(source.test, settings, source.name)}
    check_disjoint(parts)
    rows_digest = fingerprint([source.label_names] + [parts[name].to_numpy().tolist() for name in sorted(parts)])
    parts["pool"] = parts["pool"].drop(columns="label")
    splits = {name: Dataset.from_dict(part.to_dict("list")) for name, part in parts.items()}
    names, cleaned = tuple(source.label_names), dict(sorted(source.cleaned.items()))
    data = "" if world else fingerprint([names, source.rest.to_numpy().tolist(), source.test.to_numpy().tolist()])
    about = {"overlap": overlap, "cleaned": cleaned, "world": world, "fingerprint": rows_digest, "data": data}
    return Task(Path(settings.task).name, source.name, names, **splits, **about)


# --- splits --------------------------------------------------------------------------------------------------------
def remove_overlap(rest: pd.DataFrame, test_keys: set[str]) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows of `rest` that are not in the test, each text once (the first stays), and how many went."""
    keys = rest["text"].map(match_key)
    in_test = keys.isin(test_keys)
    repeated = ~in_test & keys.duplicated()
    counts = {"equals_test": int(in_test.sum()), "repeated": int(repeated.sum())}
    return rest[~in_test & ~repeated].reset_index(drop=True), counts


def split(
    rest: pd.DataFrame, settings: RunSettings, source: str, world: World | None = None
) -> dict[str, pd.DataFrame]:
    """Seeded dev, train and pool, drawn in this order; a size of 0 takes what the other two leave.

    The pool is drawn by `pool_skew` from the rows that dev and train leave.
    """
    dev, train, pool = settings.dev_size, settings.train_size, settings.pool_size
    if not train and not pool:
        raise DataError("train_size, pool_size: both are 0, which takes all that is left; give one of them a number")
    spare = len(rest) - dev - train - pool
    if spare < (0 if train and pool else 1):
        last = "" if train and pool else f" and leaves no {'pool' if train else 'train'} rows, whose 0 takes the rest"
        raise DataError(
            f"{source}: {len(rest)} distinct rows outside the test, but dev_size {dev} + train_size {train} + "
            f"pool_size {pool} asks for {dev + train + pool}{last}; lower them or add rows"
        )
    cuts = np.cumsum([0, dev, train or spare, spare + pool if settings.pool_skew != "none" else pool or spare])
    shuffled = rest.iloc[_rng(settings.seed, "rest").permutation(len(rest))].reset_index(drop=True)
    names = ("dev", "train", "pool")
    parts = {name: shuffled[a:b] for name, a, b in zip(names, cuts[:-1], cuts[1:], strict=True)}
    return parts | {"pool": skewed(parts["pool"], settings, source, world)}


RARE = 0.1  # share of the tail texts that a pool of `rare_tail` keeps
RARE_CLASS = 0.03  # share of a pool of `rare_class` that is the rare class, at least one text


def skewed(pool: pd.DataFrame, settings: RunSettings, source: str, world: World | None) -> pd.DataFrame:
    """A pool that shows less than the test does: `pool_size` rows of what `pool_skew` leaves.

    rare_tail: every tenth text of rare subtopics stays. no_tail: none. no_class: one class, drawn by the seed, is gone.
    rare_class: of the same class RARE_CLASS of the pool is left.
    """
    if settings.pool_skew == "none":
        return pool
    rng = _rng(settings.seed, "skew")
    if settings.pool_skew in ("no_class", "rare_class"):
        rare = pool["label"].to_numpy() == rng.choice(np.unique(pool["label"]))
        size = settings.pool_size or round((~rare).sum() / (1 - RARE_CLASS))
        few = max(1, round(RARE_CLASS * size)) if settings.pool_skew == "rare_class" else 0
        keep = np.where(rare, rare.cumsum() <= few, (~rare).cumsum() <= size - few)
    else:
        share = RARE if settings.pool_skew == "rare_tail" else 0.0
        keep = ~world.in_tail(pool["text"]) | (rng.random(len(pool)) < share)
    if keep.sum() < settings.pool_size:
        raise DataError(
            f"{source}: pool_skew '{settings.pool_skew}' leaves {keep.sum()} rows where pool_size asks for "
            f"{settings.pool_size}; lower pool_size"
        )
    return pool[keep][: settings.pool_size or None]


def check_disjoint(parts: dict[str, Any]) -> None:
    """Stop where two splits share a text; `parts` maps names to frames or Datasets with a 'text' column."""
    owner: dict[str, str] = {}
    for name, part in parts.items():
        for key in {match_key(text) for text in part["text"]}:
            if key in owner:
                raise DataError(
                    f"{owner[key]} and {name} share a text (match key '{key[:60]}'); "
                    f"remove it from one of them, or let load_task draw both"
                )
            owner[key] = name


def _subset(test: pd.DataFrame, settings: RunSettings, source: str) -> pd.DataFrame:
    """`test_size` seeded rows of the test file; 0 takes all."""
    if settings.test_size > len(test):
        raise DataError(f"{source}: test_size asks for {settings.test_size} of {len(test)} test rows; lower it")
    order = _rng(settings.seed, "test").permutation(len(test))[: settings.test_size or None]
    return test.iloc[order].reset_index(drop=True)


def _rng(seed: int, part: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, 0, "splits", part))
