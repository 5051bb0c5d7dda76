"""What params/ holds: a file per scale and per method a reader meets, all other arms and the studies in studies.yaml.

An arm is a method as it is set up, `method` or `method-variant`: a file with a `method` and no `scale`, a line of
`arms` in studies.yaml, or a cell of one of its studies. Its parameters are flat and the same in every scale and study.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from symbiosis.settings import SettingsError, arm_of, nearest, root
from symbiosis.yaml_files import read_params

Parameters = dict[str, Any]
OWN = "params/own"  # scales and methods of a reader, which git ignores
PLACES = ("params", OWN)  # of tests the first alone: what a reader adds turns none red
PUBLISHED = "reports"  # tables and figures of the project: only `make publish` changes them
LOCAL = "reports/local"  # runs, and what comes of them under the same names; git ignores it


@cache
def files() -> dict[str, Parameters]:
    """{name: parameters} of the files of params/ and of params/own."""
    paths = [path for place in PLACES for path in sorted((root() / place).glob("*.yaml"))]
    if twice := [name for name, count in Counter(path.stem for path in paths).items() if count > 1]:
        raise SettingsError(f"{OWN}/{twice[0]}.yaml: there is a params/{twice[0]}.yaml; give it another name")
    return {path.stem: read_params(path) for path in paths if path.stem != "studies"}


def of_run(scale: str, study: str, arm: str, seed: int) -> Parameters:
    """All that a run of a batch sets: its scale, over it its study, over both its arm, and the seed."""
    return files()[scale] | study_world(study) | all_arms()[arm] | {"seed": seed, "reports_dir": LOCAL}


@cache
def read_studies() -> dict[str, Any]:
    """params/studies.yaml: its groups of arms, its arms, its studies."""
    return read_params("params/studies.yaml")


def read_study(name: str) -> dict[str, Any]:
    studies = read_studies()["studies"]
    if name not in studies:
        raise SettingsError(f"STUDY={name}: params/studies.yaml has no such study{nearest(name, studies)}")
    return studies[name]


def study_world(study: str) -> Parameters:
    """What a study sets for every arm alike."""
    return {"study": study, **read_study(study).get("world", {})}


def study_cells(study: str) -> dict[str, Parameters]:
    """{arm: its parameters} of the cells of a study, in the order of their names; empty where it has none.

    A cell is its study's `base` (a file of params/, or parameters) and the lines in which it differs: `cross` makes one
    of every combination, `cells` lists more. A key of `levels` has names, each of which stands for several lines.
    """
    spec, arms = read_study(study), {}
    levels = spec.get("levels", {})
    crossed = itertools.product(*spec.get("cross", {}).values()) if "cross" in spec else []
    for cell in [*(dict(zip(spec["cross"], values, strict=True)) for values in crossed), *spec.get("cells", [])]:
        lines = [levels[key][name] if key in levels else {key: name} for key, name in cell.items()]
        given = _based(spec["base"], dict(itertools.chain(*(line.items() for line in lines))))
        given["variant"] = cell.get("variant") or spec["variant"].format(**given | cell).replace("%", "")
        arms[arm_of(given["method"], given["variant"])] = given
    return dict(sorted(arms.items()))


def study_twins(study: str) -> dict[str, dict[str, str]]:
    """{arm: its `study` and `arm`} of cells that another study of the same world runs under another name."""
    return read_study(study).get("twins", {})


def _based(base: str | Mapping[str, Any], own: Mapping[str, Any]) -> Parameters:
    return {**(read_params(f"params/{base}.yaml") if isinstance(base, str) else base), **own}


@cache
def all_arms() -> dict[str, Parameters]:
    """{arm: its parameters} of the files of params/, then of the arms and of the cells of studies.yaml."""
    named = {name: given for name, given in files().items() if "method" in given and "scale" not in given}
    own = {name: named.pop(name) for name in list(named) if (root() / OWN / f"{name}.yaml").is_file()}
    arms = list(named.values())
    for name, line in read_studies()["arms"].items():
        given = _based(line["base"], {key: value for key, value in line.items() if key != "base"})
        arms.append(given | {"variant": name.removeprefix(f"{given['method']}_")})
    found = {_arm(given): given for given in arms}
    for study in read_studies()["studies"]:
        found |= study_cells(study)
    for name, given in own.items():
        if _arm(given) in found:
            raise SettingsError(f"{OWN}/{name}.yaml: there is an arm '{_arm(given)}'; give yours another `variant`")
        found[_arm(given)] = given
    return found


def _arm(given: Parameters) -> str:
    return arm_of(given["method"], given.get("variant", "plain"))


def arms_of(study: str) -> list[str]:
    """The arms that run in a study of its own: those it names, then its cells without their twins."""
    cells = [arm for arm in study_cells(study) if arm not in study_twins(study)]
    return list(dict.fromkeys([*named_arms(read_study(study).get("arms", [])), *cells]))


def named_arms(names: Iterable[str]) -> list[str]:
    """The arms that names stand for: arms (`_` for `-`, too), groups of arms, studies for their cells."""
    studies = read_studies()
    by_name = {arm.replace("-", "_"): [arm] for arm in all_arms()}
    arms: list[str] = []
    for name in names:
        if name in studies["groups"]:
            arms += named_arms(studies["groups"][name])
        elif name.replace("-", "_") in by_name:
            arms += by_name[name.replace("-", "_")]
        elif name in studies["studies"] and (cells := study_cells(name)):
            arms += cells
        else:
            known = [*by_name, *studies["groups"]]
            raise SettingsError(f"ARMS={name}: no such arm, group or study{nearest(name, known)}")
    return list(dict.fromkeys(arms))
