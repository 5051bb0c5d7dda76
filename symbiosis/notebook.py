"""Settings out of a notebook's cells: what its parameters cell, papermill and a reader have set."""

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from symbiosis.settings import RunSettings, S, Settings, SettingsError, make_settings, root
from symbiosis.yaml_files import read_params

INJECTED = "# Parameters\n"  # how papermill begins the cell it adds
ASKS_FOR_SETTINGS = r"\bnotebook_(settings|parameters)\("  # in a notebook's cell
COMPUTED = object()  # in place of a value that is no literal


def notebook_settings(namespace: Mapping[str, Any], model_class: type[S] = RunSettings, **fixed: Any) -> S:
    """Settings of a notebook: `notebook_settings(globals())` in the cell after the parameters.

    `fixed` adds what the notebook itself decides.
    """
    given = notebook_parameters(namespace, model_class) | fixed
    return make_settings(_where_from(given, model_class), model_class, **given)


def notebook_parameters(namespace: Mapping[str, Any], model_class: type[Settings] = RunSettings) -> dict[str, Any]:
    """What a notebook's parameters cell, and the one papermill injects after it, have set; unknown names included.

    Unknown names are found in the history of cells; where a runner keeps no history (nbval), the fields of the settings
    are taken from the namespace, as is whatever a cell computes.
    """
    fields = {name: namespace[name] for name in model_class.model_fields if name in namespace}
    plain = {name: value for name, value in fields.items() if isinstance(value, (str, int, float))}
    said = literal_parameters(namespace.get("In", []), model_class.model_fields)
    return plain | {name: namespace.get(name) if value is COMPUTED else value for name, value in said.items()}


def literal_parameters(cells: Sequence[str], fields: Collection[str] = ()) -> dict[str, Any]:
    """Names and values of the cells that set parameters, COMPUTED for what is no literal; later cells win.

    Before the notebook asks for its settings these are the cells of literal assignments and those that set a field.
    Afterwards literal assignments are a change of parameters where all names are `fields`, else a reader's scratch.
    Raises SettingsError where what papermill was given is more than names and values: it writes names into the notebook
    as they are, so a name can be code.
    """
    values: dict[str, Any] = {}
    asked = False
    for cell in cells:
        asked = asked or bool(re.search(ASKS_FOR_SETTINGS, cell))
        given, alone = _assigned(cell)
        injected = cell.startswith(INJECTED)
        if injected and not alone:
            raise SettingsError("parameters: a name given to papermill is no plain word; correct it")
        literal = alone and COMPUTED not in given.values()
        known = not set(given).isdisjoint(fields)
        if (literal and set(given) <= set(fields)) if asked else (literal or known or injected):
            values |= given
    return values


def _assigned(cell: str) -> tuple[dict[str, Any], bool]:
    """What a cell assigns to names, COMPUTED where that is no literal, and whether it does nothing else."""
    lines = ["pass" if line.startswith(("%", "!")) else line for line in cell.splitlines()]
    try:
        body = ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError, RecursionError):
        return {}, False
    values: dict[str, Any] = {}
    alone = True
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not (isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value):
            alone = False
            continue
        alone = alone and all(isinstance(target, ast.Name) for target in targets)
        try:
            value = ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, RecursionError):
            value = COMPUTED
        values |= {target.id: value for target in targets if isinstance(target, ast.Name)}
    return values, alone


def settings_table(settings: Settings, namespace: Collection[str] = ()) -> str:
    """The parameters that a notebook's namespace does not name, as lines that its parameters cell could have."""
    fields = {name: field for name, field in type(settings).model_fields.items() if name not in namespace}
    lines = {f"{name} = {getattr(settings, name)!r}": field.description for name, field in fields.items()}
    width = max(map(len, lines), default=0)
    return "\n".join(f"{line:{width}}  # {meaning}" for line, meaning in lines.items())


def _where_from(given: dict[str, Any], model_class: type[Settings]) -> str:
    """The params files that hold a name no setting has, else 'parameters'."""
    unknown = set(given) - set(model_class.model_fields)
    for path in sorted(root().glob("params/**/*.yaml")) if unknown else []:
        if unknown & set(read_params(path)):
            return str(path.relative_to(root()))
    return "parameters"
