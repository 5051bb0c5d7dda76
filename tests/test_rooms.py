"""The house: every room stands above all that it imports, and the formulas know no model."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    {"theory", "errors", "warm"}, {"settings"}, {"yaml_files"}, {"notebook", "prompts"}, {"params"}, {"store"},
    {"data"}, {"measures"}, {"models"}, {"pretrain"}, {"loop"}, {"interaction"}, {"small_studies"}, {"analysis"},
    {"execute"}, {"pages", "share", "new"}, {"batch"}, {"batch_summary"},
)  # fmt: skip
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(
    path for path in (ROOT / "symbiosis").rglob("*.py") if path.parent.name != "symbiosis" or path.stem[0] != "_"
)
assert len(FILES) > 30


def imported(path: Path) -> list[str]:
    """Dotted names of all modules a file imports, also inside functions."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def room(dotted: str) -> str:
    return dotted.split(".")[1]


def test_imports_go_down_only():
    up = []
    for path in FILES:
        own = path.relative_to(ROOT).with_suffix("").parts[1]
        ours = {room(name) for name in imported(path) if name.startswith("symbiosis.")}
        up += [f"{path.name} looks up to {other}" for other in ours if other != own and FLOOR[other] >= FLOOR[own]]
    assert not up


def test_formulas_know_no_model():
    for path in [path for own in ("theory", "measures") for path in (ROOT / "symbiosis" / own).glob("*.py")]:
        assert not {"torch", "transformers"} & {name.split(".")[0] for name in imported(path)}, path.name
