"""papermill as a command that starts in a third of the time: `python -m symbiosis.execute NOTEBOOK OUT -f FILE ...`.

Its words are papermill's own, and `python -m papermill` does the same.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise

from symbiosis.settings import SettingsError, read_params


def skip_rfc3987_import() -> None:
    """Let what reads notebooks start a second sooner; to be called before its first import.

    All of it imports jsonschema, which builds a grammar of web addresses to check fields that no notebook has. Refused
    that import, it does without, as where the package is not installed.
    """
    sys.modules.setdefault("rfc3987_syntax", None)


def check_names(words: Sequence[str]) -> None:
    """Exits with a sentence where a name given to papermill is not one: it writes names into the notebook as code."""
    for option, value in pairwise([*words, ""]):
        if option in ("-f", "--parameters_file"):
            read_params(value)
        elif option in ("-p", "--parameters", "-r", "--parameters_raw") and not value.isidentifier():
            raise SettingsError(f"{option} {value[:40]!r}: no name of a parameter; write {option} name value")
        elif option in ("-y", "--parameters_yaml", "-b", "--parameters_base64"):
            raise SettingsError(f"{option}: parameters come from files (-f) and one by one (-p) here")


def main() -> None:
    skip_rfc3987_import()
    try:
        check_names(sys.argv[1:])
    except SettingsError as error:
        sys.exit(f"SettingsError: {error}")
    from papermill.cli import papermill
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill(prog_name="papermill")
    except PapermillExecutionError as error:
        if len(error.traceback) > 1:
            raise
        sys.exit(error.traceback[0])  # a SymbiosisError, whose traceback is its sentence


if __name__ == "__main__":
    main()
