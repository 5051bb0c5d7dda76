"""One family of errors: a sentence that names the file, the key and the remedy."""


class SymbiosisError(Exception):
    """Shown in notebooks as its own sentence, without a wall of traceback."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for this
        return [f"{type(self).__name__}: {self}"]
