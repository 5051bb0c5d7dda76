"""One test over a table: what holds of every line of it is one fact, and one case."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable

import pytest


def row_by_row(names: str | tuple[str, ...], rows: Iterable | str) -> Callable:
    """Call the test with every row, as `parametrize` would, and tell at the end of all rows that failed.

    A row has a monkeypatch of its own and a folder of its own in tmp_path; other fixtures are shared among the rows.

    rows: those of the table, or the name of a fixture that gives them.
    """
    names = re.findall(r"\w+", names) if isinstance(names, str) else names
    given = rows if isinstance(rows, str) else ""
    rows = [] if given else list(rows)
    assert given or rows, "a table without rows tests nothing"

    def decorate(test: Callable) -> Callable:
        @functools.wraps(test)
        def over_all(**fixtures) -> None:
            failed = []
            for i, row in enumerate(fixtures.pop(given) if given else rows):
                own = dict(zip(names, row if len(names) > 1 else (row,), strict=True))
                if "tmp_path" in fixtures:
                    own["tmp_path"] = fixtures["tmp_path"] / str(i)
                    own["tmp_path"].mkdir()
                with pytest.MonkeyPatch.context() as patch:
                    own |= {"monkeypatch": patch} if "monkeypatch" in fixtures else {}
                    try:
                        test(**fixtures | own)
                    except Exception as error:
                        error.add_note(f"row {i}: {str(row)[:300]}")
                        failed.append(error)
            if failed:
                raise failed[0] if len(failed) == 1 else ExceptionGroup(f"{len(failed)} rows failed", failed)

        asked = [one for one in inspect.signature(test).parameters.values() if one.name not in names]
        asked += [inspect.Parameter(given, inspect.Parameter.KEYWORD_ONLY)] if given else []
        over_all.__signature__ = inspect.Signature(asked)
        return over_all

    return decorate
