import re

import pytest

from symbiosis.settings import (
    COMPUTED,
    UNREPORTED,
    InteractionSettings,
    RunSettings,
    SettingsError,
    derive_seed,
    literal_parameters,
    make_settings,
    notebook_parameters,
    notebook_settings,
    read_params,
    settings_table,
)

# --- values --------------------------------------------------------------------------------------------------------
CANNOT_RUN = [
    ({"epohcs": 3}, "unknown parameter 'epohcs' (did you mean 'epochs'?)"),
    ({"learning_rate": "3e-4"}, "'3e-4' is text, not a number; YAML reads 3e-4 as text: write 3.0e-4"),
    ({"epochs": "9" * 9000}, "is text, not a number; remove the quotes"),
    ({"epochs": 0}, "epochs: Input should be greater than or equal to 1"),
    ({"seed": 1.5}, "seed: Input should be a valid integer"),
    ({"keep_checkpoints": "yes"}, "keep_checkpoints: Input should be a valid boolean"),
    ({"method": "magic"}, "method: Input should be 'real', 'static'"),
    ({"learning_rate": float("nan")}, "learning_rate: Input should be a finite number"),
    ({"task": ["x"] * 9000}, "task: Input should be a valid string, got ['x', "),
    # what no machine can hold
    ({"seed": 2**63}, "seed: Input should be less than 9223372036854775808"),
    ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
    ({"batch_size": 10**30}, "batch_size: Input should be less than 2147483648"),
    ({"lesson_size": 10**5000}, "lesson_size: Input should be less than 2147483648, got a number of thousands"),
    ({"variant": "v" * 300}, "variant: String should have at most 80 characters"),
    ({"study": "a\n"}, "study: String should match pattern"),
    ({"reports_dir": ""}, "reports_dir: String should have at least 1 character"),
    ({"reports_dir": "~nobody_of_that_name/r"}, "'~nobody_of_that_name/r' is the home of nobody on this machine"),
    ({"task": "a\0b"}, r"task: 'a\x00b' holds a control character"),
    ({"student": "x" * 300}, "student: 'xxxx"),
    ({"generator": "x/" * 2000}, "is longer than a name on a disk may be; name another"),
    # what does not go together
    ({"teaching_share": 0.75, "pool_share": 0.5}, "teaching_share, pool_share: 0.75 and 0.5 are more than one"),
    ({"generator_update": "dpo", "candidates": 1}, "generator_update 'dpo' compares drafts; give 2 or more"),
    ({"student": "probe"}, "feedback: 'lm_loss' asks a Student that predicts texts, and 'probe' only says labels"),
    ({"student": "minilm", "method": "recursive"}, "method: 'recursive' asks a Student that predicts texts"),
    ({"student": "probe", "method": "real", "probe_hidden_states": True}, "probe_hidden_states: True asks a Student"),
    ({"lesson_size": 24, "warmup_steps": 4}, "warmup_steps: 4 of the 4 steps of a lesson leave no other; lower it"),
    ({"task": "data/news", "pool_skew": "rare_tail"}, "pool_skew: only the miniature knows its tail"),
    ({"dev_rows_as": "prompts"}, "dev_rows_as: 'prompts' has a Generator explain dev rows; set dev_rows to 1 or more"),
    ({"dev_rows_as": "both", "dev_rows": 8, "method": "real"}, "method to symbiosis, pseudo_label or static"),
    ({"dev_rows_as": "both", "dev_rows": 240}, "dev_rows: 240 leaves no other row of lesson_size 240"),
    ({"method": "static", "static_size": 100}, "static_size: 100 is less than one lesson (lesson_size 240); raise it"),
    ({"first_lesson_sources": "feedback", "feedback": "influence"}, "'influence' needs a lesson before; take random"),
    ({"generator": "small"}, "generator: 'small' is no longer made, its rows are history; take smollm2-135m-instruct"),
]


def test_what_cannot_be_run_is_one_sentence_with_file_and_key():
    for given, says in CANNOT_RUN:
        with pytest.raises(SettingsError, match=re.escape(says)) as told:
            make_settings("params/x.yaml", **given)
        assert str(told.value).startswith("params/x.yaml: ")
        assert "\n" not in str(told.value) and len(str(told.value)) < 300


def test_mistakes_are_listed_at_once_up_to_a_dozen():
    with pytest.raises(SettingsError) as told:
        make_settings("x.yaml", epohcs=3, learning_rate="3e-4", top_p=2.0)
    assert [line.split(": ")[1] for line in str(told.value).splitlines()] == [
        "top_p", "learning_rate", "unknown parameter 'epohcs' (did you mean 'epochs'?)",
    ]  # fmt: skip
    with pytest.raises(SettingsError) as told:
        make_settings("x.yaml", **{f"no_{i}": i for i in range(100)})
    assert len(str(told.value).splitlines()) == 13 and str(told.value).endswith("x.yaml: and 88 more")


def test_settings_cannot_change_and_their_fingerprint_is_of_what_matters():
    settings = make_settings(temperature=1, seed=2**63 - 1)
    assert settings.temperature == 1.0 and settings.name == "symbiosis-s9223372036854775807"
    with pytest.raises(ValueError):
        settings.epochs = 3
    assert RunSettings().fingerprint == RunSettings(reports_dir="elsewhere").fingerprint == "80988ef9"
    assert RunSettings().fingerprint == RunSettings(real_share=0.0).fingerprint  # it came later
    changed = {RunSettings(epochs=3).fingerprint, RunSettings(real_share=0.5).fingerprint}
    assert len(changed | {RunSettings().fingerprint}) == 3


def test_names_and_folders_of_runs():
    assert RunSettings(method="recursive", variant="warm", seed=1).name == "recursive-warm-s1"
    assert RunSettings().scale == UNREPORTED and RunSettings().folder != RunSettings(epochs=3).folder
    assert RunSettings(scale="mine").folder == RunSettings(scale="mine", epochs=3).folder == "mine/main/symbiosis-s0"


def test_derived_seeds_differ_in_every_part_and_stay_the_same():
    seeds = {derive_seed(s, g, stage) for s in range(3) for g in range(3) for stage in ("write", "student")}
    assert len(seeds) == 18
    assert derive_seed(1, 2, "write") == derive_seed(1, 2, "write") < 2**63


# --- notebooks -----------------------------------------------------------------------------------------------------
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
    for kind in (RunSettings, InteractionSettings):
        assert [name for name, field in kind.model_fields.items() if not field.description] == []


# --- files ---------------------------------------------------------------------------------------------------------
MALFORMED = [
    (b"seed: 1\nmethod: [real\n", "line 3: not valid YAML"),
    (b"- real\n", "holds list; write one 'name: value' per line"),
    (b"", "holds nothing"),
    (b"# only words\n", "holds nothing"),
    (b"null\n", "holds nothing"),
    (b"method: real\nseed: 1\nmethod: static\n", "line 3: not valid YAML: 'method' comes a second time"),
    (b"cells:\n  - {alpha: 1, alpha: 2}\n", "line 2: not valid YAML: 'alpha' comes a second time"),
    (b"seed: 1\n---\nseed: 2\n", "line 2: not valid YAML"),
    (b"seed: 1\nmethod: r\xe9al\n", "line 2: not UTF-8 (byte 17)"),
    (b"seed: 1\n1: real\n", "line 2: '1' is no name of a parameter"),
    (b"true: real\n", "line 1: 'true' is no name of a parameter"),
    (b"class: real\n", "line 1: 'class' is no name of a parameter"),
    (b"\"__import__('os').getcwd();x\": 1\n", "line 1: \"__import__('os').getcwd();x\" is no name of"),
    (b"? [a, b]\n: 1\n", "line 1: not valid YAML"),
    (b"a: 1\nseed: " + b"1" * 5000 + b"\n", "line 2: not valid YAML: Exceeds the limit"),
    (b"a: 2024-99-99\n", "line 1: not valid YAML: month must be in 1..12"),
    (b"a: 1\nb: " + b"[" * 50_000 + b"]" * 50_000, "line 2: not valid YAML: nested too deeply"),
    (b"a: 1\0\n", "not valid YAML"),
    (b"a: !!python/object/apply:os.getcwd []\n", "line 1: not valid YAML: could not determine a constructor"),
]


def test_a_malformed_params_file_is_one_sentence_with_file_and_line(tmp_path):
    path = tmp_path / "own.yaml"
    with pytest.raises(SettingsError, match=r"own.yaml: no such params file"):
        read_params(path)
    for content, says in MALFORMED:
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=re.escape(says)) as told:
            read_params(path)
        assert str(told.value).startswith(f"{path}: ") and len(str(told.value)) < len(str(path)) + 260


def test_a_sound_params_file_may_have_a_mark_anchors_and_a_merge(tmp_path):
    (tmp_path / "own.yaml").write_bytes(b"\xef\xbb\xbfa: &x {b: 1}\nc: *x\n<<: {a: 2, d: 3}\n")
    assert read_params(tmp_path / "own.yaml") == {"a": {"b": 1}, "c": {"b": 1}, "d": 3}
