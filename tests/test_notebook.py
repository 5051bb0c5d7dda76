import pytest

from symbiosis.notebook import (
    COMPUTED,
    literal_parameters,
    notebook_parameters,
    notebook_settings,
    settings_table,
)
from symbiosis.settings import RunSettings, SettingsError

SMOKE, ASKS = "epochs: int = 2\nseed: int = 0", "settings = notebook_settings(globals())"


CELLS = [
    (["# Parameters\nseed = 7\n", ASKS], {"seed": 7}),
    ([ASKS, "k = 3", ASKS], {}),  # a reader's scratch
    ([ASKS, "k = 3\nseed = 4", ASKS], {}),
    ([ASKS, "seed = len(rows)", ASKS], {}),
    ([ASKS, "epochs: int = 3\nseed: int = 0", "lesson_size = 100", ASKS], {"epochs": 3, "lesson_size": 100}),
    (["import os\nseed = 3 + 4\n%matplotlib inline", ASKS], {"seed": 7}),  # no literal: what it came to
    (["import os", "c = a + 1", "%matplotlib inline", ASKS], {}),
]


def test_settings_are_what_the_cells_of_a_notebook_say():
    for cells, changed in CELLS:
        assert notebook_settings({"In": ["", SMOKE, *cells], "seed": 7}) == RunSettings(**changed)


MISSPELT = [
    ([SMOKE, "# Parameters\nepohcs = 3\n"], r"unknown parameter 'epohcs' \(did you mean 'epochs'"),
    ([SMOKE, "# Parameters\nepohcs = 3\ntemperature = float('nan')"], "unknown parameter 'epohcs'"),
    (["import os\nseed = 2**3\nepohcs = 3"], "unknown parameter 'epohcs'"),
    (["seed = epohcs = 3"], "unknown parameter 'epohcs'"),
    ([SMOKE, "# Parameters\n__import__('os').getcwd();x = 1\n"], "a name given to papermill is no plain word"),
    ([SMOKE, "# Parameters\nx.y = 1\n"], "a name given to papermill is no plain word"),
]


def test_a_misspelt_name_is_seen_in_whatever_cell_sets_parameters():
    for cells, says in MISSPELT:
        with pytest.raises(SettingsError, match=says):
            notebook_settings({"In": ["", *cells, ASKS], "seed": 0, "temperature": float("nan")})


def test_a_runner_without_history_still_passes_the_parameters_and_history_wins():
    namespace = {"In": [""], "epochs": 4, "scale": "smoke", "task": object(), "os": object(), "n": 3}
    assert notebook_parameters(namespace) == {"epochs": 4, "scale": "smoke"}
    said = {"In": ["", "task: str = 'miniature'\nseed: int = 1"], "task": object(), "seed": 5}
    assert notebook_parameters(said) == {"task": "miniature", "seed": 1}
    assert literal_parameters(["seed = 2**3\nb = 1", "c = a + 1"], {"seed"}) == {"seed": COMPUTED, "b": 1}


def test_the_table_of_the_other_parameters_is_lines_for_the_parameters_cell():
    lines = settings_table(RunSettings(epochs=3), {"seed", "task"}).splitlines()
    assert len(lines) == len(RunSettings.model_fields) - 2
    assert literal_parameters(["\n".join(lines)]) == RunSettings(epochs=3).model_dump(exclude={"seed", "task"})
    assert next(line for line in lines if line.startswith("epochs")).split("  # ") == [
        f"{'epochs = 3':{lines[0].index('  #')}}",
        "passes over each lesson",
    ]
