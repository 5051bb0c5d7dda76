"""papermill as a command that starts in a third of the time: `python -m symbiosis.execute NOTEBOOK OUT -f FILE ...`.

Its words are papermill's own, and `python -m papermill` does the same. `--run-alone` before them leaves out the cells
that show a small cycle in view before the run: a batch has no reader who waits.
"""

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from keyword import iskeyword
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from symbiosis.errors import SymbiosisError
from symbiosis.notebook import ASKS_FOR_SETTINGS, literal_parameters
from symbiosis.settings import InteractionSettings, RunSettings, SettingsError, nearest
from symbiosis.warm import skip_rfc3987_import, warm_kernels
from symbiosis.yaml_files import read_params

LOOK, RUN_ALONE = "look", "--run-alone"


def check_given(given: Mapping[str, Any]) -> None:
    """Raise SettingsError where what papermill was given is no parameter of the notebook.

    papermill writes names into the notebook as they are, so a name can be code; a misspelt one may go unnoticed there.
    given: papermill's own words, parsed.
    """
    if given["parameters_yaml"] or given["parameters_base64"]:
        raise SettingsError("-y, -b: parameters come from files (-f) and one by one (-p) here")
    names = {name: "-p" for name, _ in (*given["parameters"], *given["parameters_raw"])}
    for path in given["parameters_file"]:
        names |= dict.fromkeys(read_params(Path(path).absolute()), path)
    known = known_names(given["notebook_path"] or "")
    for name, source in names.items():
        if not (name.isidentifier() and not iskeyword(name)):
            raise SettingsError(f"{source}: {name[:60]!r} is no name of a parameter; write a name and its value")
        if known and name not in known:
            raise SettingsError(f"{source}: unknown parameter '{name[:60]}'{nearest(name, known)}")


def known_names(notebook: str) -> set[str]:
    """The parameters of a notebook: those of its cell, and all settings where it asks for them; {} of an odd file."""
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
        code = {"".join(cell["source"]): cell["metadata"].get("tags", []) for cell in cells}
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # papermill says what is wrong with it
    asks = any(re.search(ASKS_FOR_SETTINGS, source) for source in code)
    fields = {*RunSettings.model_fields, *InteractionSettings.model_fields} if asks else set()
    own = literal_parameters([source for source, tags in code.items() if "parameters" in tags])
    return fields | set(own)


@contextlib.contextmanager
def without_looks(notebook: str) -> Iterator[str]:
    """The path of a copy of a notebook without its cells of the tag LOOK."""
    content = json.loads(Path(notebook).read_text(encoding="utf-8"))
    content["cells"] = [cell for cell in content["cells"] if LOOK not in cell["metadata"].get("tags", [])]
    with NamedTemporaryFile("w", suffix=".ipynb") as copy:
        json.dump(content, copy)
        copy.flush()
        yield copy.name


def main() -> None:
    skip_rfc3987_import()
    alone = sys.argv[1:2] == [RUN_ALONE] and sys.argv.pop(1)
    from papermill.cli import papermill
    from papermill.exceptions import PapermillExecutionError

    warm_kernels()
    try:
        check_given(papermill.make_context("papermill", sys.argv[1:], resilient_parsing=True).params)
        with without_looks(sys.argv[1]) if alone else contextlib.nullcontext() as copy:
            papermill([copy, *sys.argv[2:]] if copy else None, prog_name="papermill")
    except SymbiosisError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except PapermillExecutionError as error:
        if len(error.traceback) > 1:
            raise
        sys.exit(error.traceback[0])  # a SymbiosisError, whose traceback is its sentence


if __name__ == "__main__":
    main()
