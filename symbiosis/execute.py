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

    papermill(prog_name="papermill")


if __name__ == "__main__":
    main()
