"""papermill as a command that starts in a third of the time: `python -m symbiosis.execute NOTEBOOK OUT -f FILE ...`.

Its words are papermill's own, and `python -m papermill` does the same.
"""

import sys


def skip_rfc3987_import() -> None:
    """Let what reads notebooks start a second sooner; to be called before its first import.

    All of it imports jsonschema, which builds a grammar of web addresses to check fields that no notebook has. Refused
    that import, it does without, as where the package is not installed.
    """
    sys.modules.setdefault("rfc3987_syntax", None)


def main() -> None:
    skip_rfc3987_import()
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
