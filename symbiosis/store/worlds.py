"""Whether runs may stand in one table: seeds of an arm differ in the seed alone, arms of a study share their world."""

from collections.abc import Mapping

import pandas as pd

from symbiosis import params
from symbiosis.errors import SymbiosisError
from symbiosis.settings import InteractionSettings, RunSettings, Settings, fingerprint, make_settings

WORLD = (  # what the arms of a study have in common: task, sizes, models
    "task", "task_revision", "private_tasks", "public_task", "generations", "lesson_size", "train_size", "pool_size",
    "pool_skew", "dev_size", "test_size", "student", "student_revision", "student_corpus", "student_steps", "generator",
    "generator_revision", "generator_corpus", "generator_steps",
)  # fmt: skip
ALIKE = {"setting": 3, "world": 2, "data": 2, "classes": 2, "precision": 2}  # column: parts of scale, study, arm alike


class WorldError(SymbiosisError):
    """Runs that one table cannot hold, with what they differ in."""


def marks(settings: Settings | None) -> dict[str, str]:
    """The columns of records.csv that say what a run shares with the other seeds of its arm, and with other arms."""
    if settings is None:
        return {"setting": "", "world": ""}
    world = {name: getattr(settings, name) for name in WORLD if hasattr(settings, name)}
    return {"setting": settings.model_copy(update={"seed": 0}).fingerprint, "world": fingerprint(world)}


def settings_of(values: Mapping) -> Settings:
    """Settings of either kind, as a record or params has them."""
    kind = InteractionSettings if values["method"] == "interaction" else RunSettings
    return make_settings("/".join(str(values.get(name, "")) for name in ("scale", "study", "method")), kind, **values)


def check_same_world(records: pd.DataFrame, found: Mapping[str, Settings]) -> None:
    """WorldError where lines of records.csv do not belong together; what a line does not say is not compared.

    found: run_id -> settings of the runs that are merged, for the sentence.
    """
    first: dict[tuple, dict] = {}
    for record in records.sort_values("run_id").to_dict("records"):
        names = _names(record["run_id"])
        for column, shared in ALIKE.items():
            other = first.setdefault((column, *names[:shared]), record) if record[column] else record
            if other[column] != record[column]:
                old, new = sorted((other, record), key=lambda one: (one["run_id"] in found, _as_planned(one) is None))
                raise WorldError(
                    f"{old['run_id']} and {new['run_id']}: {_differing(column, old, new, found)}, so one table cannot "
                    f"hold both; delete the folder of the second, and give it its own scale ({params.OWN}) or variant"
                )


def check_same_processor(records: pd.DataFrame) -> None:
    """WorldError where arms of one scale, study and seed, which are compared in pairs, ran on different processors.

    A line of records.csv that does not say its hardware is not compared.
    """
    first: dict[tuple, dict] = {}
    for record in records[records["hardware"] != ""].sort_values("run_id").to_dict("records"):
        scale, study, _, seed = _names(record["run_id"])
        other = first.setdefault((scale, study, seed), record)
        if other["hardware"] != record["hardware"]:
            raise WorldError(
                f"{other['run_id']} and {record['run_id']}: ran on {other['hardware']} and {record['hardware']}, so "
                "their difference is not of the methods alone; run both on one kind before you publish them"
            )


def _names(run_id: str) -> tuple[str, str, str, str]:
    """(scale, study, arm, seed)"""
    scale, study, name = run_id.partition("@")[0].split("/")
    arm, _, seed = name.rpartition("-s")
    return scale, study, arm, seed


def _differing(column: str, old: Mapping, new: Mapping, found: Mapping[str, Settings]) -> str:
    one, other = (found.get(record["run_id"]) or _as_planned(record) for record in (old, new))
    if column in ("data", "classes", "precision") or not (one and other):
        return f"{column} is {old[column]} and {new[column]}"
    own = ("seed", "reports_dir", "keep_checkpoints")
    compared = WORLD if column == "world" else [name for name in type(one).model_fields if name not in own]
    values = ((name, getattr(one, name, None), getattr(other, name, None)) for name in compared)
    return next(f"{name} is {a!r} and {b!r}" for name, a, b in values if a != b)


def _as_planned(record: Mapping) -> Settings | None:
    """What params says of a run today, where that is what it was made by."""
    scale, study, arm, seed = _names(record["run_id"])
    try:
        settings = settings_of(params.of_run(scale, study, arm, int(seed)))
    except (KeyError, SymbiosisError):
        return None
    return settings if marks(settings)["setting"] == record["setting"] else None
