"""YAML, read strictly: whatever is wrong in a file is one sentence with the file, the line and the remedy."""

from keyword import iskeyword
from pathlib import Path
from typing import Any

import yaml

from symbiosis.settings import SettingsError, resolve

YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_DEPTH = 20  # levels of a file; ours have four


def read_params(path: str | Path) -> dict[str, Any]:
    """One params file as a dictionary; SettingsError names file and line of what is malformed."""
    path = resolve(path)
    if not path.is_file():
        raise SettingsError(f"{path}: no such params file")
    values, node = _read_yaml(path)
    if not isinstance(values, dict) or not values:
        what = type(values).__name__ if values else "nothing"
        raise SettingsError(f"{path}: holds {what}; write one 'name: value' per line")
    for key, _ in node.value:
        is_name = key.tag.endswith(":str") and key.value.isidentifier() and not iskeyword(key.value)
        if not is_name and not key.tag.endswith(":merge"):
            name = str(key.value)[:40]
            raise SettingsError(
                f"{path}: line {key.start_mark.line + 1}: {name!r} is no name of a parameter; write 'name: value'"
            )
    return values


def read_yaml(path: Path) -> Any:
    """What a YAML file says, strictly: in UTF-8, no key twice; SettingsError names file and line."""
    return _read_yaml(path)[0]


def _read_yaml(path: Path) -> tuple[Any, yaml.Node]:
    try:
        text = path.read_text(encoding="utf-8")
        depth = 0
        for event in yaml.parse(text, Loader=YAML):  # libyaml's loader itself would crash on thousands of levels
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=event.start_mark)
        loader = _Strict(text)
        node = loader.get_single_node()
        return (loader.construct_document(node) if node else None), node
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}: line {line}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        said = " ".join(str(getattr(error, "problem", None) or error).split())
        raise SettingsError(f"{path}: {where}not valid YAML: {said[:150]}") from None


class _Strict(YAML):
    """Refuses, with the line, a key that comes twice and a value that is none, as a number of 5,000 digits."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key.value, str)]
        for i, (key, _) in enumerate(node.value):
            if (key.tag, key.value) in keys[:i]:
                said = f"'{key.value[:40]}' comes a second time; keep one of the two"
                raise yaml.MarkedYAMLError(problem=said, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)
