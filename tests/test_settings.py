import re

import pytest

from symbiosis.settings import (
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


def message(**given) -> str:
    with pytest.raises(SettingsError) as caught:
        make_settings("params/x.yaml", **given)
    return str(caught.value)


def test_unknown_parameter_names_file_key_and_nearest():
    assert message(epohcs=3) == "params/x.yaml: unknown parameter 'epohcs' (did you mean 'epochs'?)"


def test_all_mistakes_are_listed_at_once():
    lines = message(epohcs=3, learning_rate="3e-4", top_p=2.0).splitlines()
    assert len(lines) == 3
    assert any(line.startswith("params/x.yaml: top_p: ") for line in lines)


def test_yaml_text_that_looks_like_a_number_says_how_to_write_it():
    assert message(learning_rate="3e-4") == (
        "params/x.yaml: learning_rate: '3e-4' is text, not a number; YAML reads 3e-4 as text: write 3.0e-4"
    )


@pytest.mark.parametrize(
    "given",
    [{"epochs": 0}, {"seed": 1.5}, {"keep_checkpoints": "yes"}, {"method": "magic"}, {"learning_rate": float("nan")}],
)
def test_values_out_of_range_or_of_the_wrong_type_are_refused(given):
    assert next(iter(given)) in message(**given)


def test_impossible_combination_names_both_keys():
    text = message(method="symbiosis", teaching_share=0.75, pool_share=0.5)
    assert "teaching_share, pool_share: 0.75 and 0.5 are more than one lesson" in text
    text = message(generator_update="dpo", candidates=1)
    assert "generator_update 'dpo' compares drafts; give 2 or more" in text
    assert "pool_skew: only the miniature knows its tail" in message(task="data/news", pool_skew="rare_tail")
    assert "attributes: the 'small' Generator was not taught" in message(
        attributes=True, generator="small", generator_corpus="data/news.csv"
    )


def test_whole_number_is_a_fine_float():
    assert make_settings(temperature=1).temperature == 1.0


def test_settings_cannot_change_and_their_fingerprint_is_of_what_matters():
    settings = RunSettings()
    with pytest.raises(ValueError):
        settings.epochs = 3
    assert settings.fingerprint == RunSettings(reports_dir="elsewhere").fingerprint
    assert settings.fingerprint != RunSettings(epochs=3).fingerprint


def test_only_cells_of_literals_are_parameters_and_the_last_wins():
    cells = ["a: int = 3  # steps\nb = 'x'", "import os", "# Parameters\na = 4\n", "c = a + 1", "%matplotlib inline"]
    assert literal_parameters(cells) == {"a": 4, "b": "x"}


def test_notebook_settings_see_a_misspelt_injected_parameter():
    namespace = {"In": ["", "epochs: int = 2", "# Parameters\nepohcs = 3\n"]}
    with pytest.raises(SettingsError, match=r"unknown parameter 'epohcs' \(did you mean 'epochs'"):
        notebook_settings(namespace)


def test_notebook_settings_take_what_the_cells_say():
    namespace = {"In": ["epochs: int = 2\nseed: int = 0", "# Parameters\nseed = 7\n"]}
    settings = notebook_settings(namespace, method="real")
    assert (settings.epochs, settings.seed, settings.method) == (2, 7, "real")


IN_LAB = ["", "epochs: int = 2\nseed: int = 0", "settings = notebook_settings(globals())"]


def test_scratch_variables_of_a_reader_are_no_parameters():
    assert notebook_settings({"In": [*IN_LAB, "k = 3", IN_LAB[-1]]}) == RunSettings()
    assert notebook_settings({"In": [*IN_LAB, "k = 3\nseed = 4", IN_LAB[-1]]}) == RunSettings()  # k is no parameter


def test_a_reader_may_change_parameters_and_run_the_settings_cell_again():
    changed = notebook_settings({"In": [*IN_LAB, "epochs: int = 3\nseed: int = 0", "lesson_size = 100", IN_LAB[-1]]})
    assert changed == RunSettings(epochs=3, lesson_size=100)


def test_a_changed_parameter_has_a_folder_of_its_own_at_the_smoke_size_only():
    assert RunSettings().scale == UNREPORTED and RunSettings().folder != RunSettings(epochs=3).folder
    assert RunSettings(scale="mine").folder == RunSettings(scale="mine", epochs=3).folder == "mine/main/symbiosis-s0"


def test_the_table_of_the_other_parameters_is_lines_for_the_parameters_cell():
    lines = settings_table(RunSettings(epochs=3), {"seed", "task"}).splitlines()
    assert len(lines) == len(RunSettings.model_fields) - 2
    assert literal_parameters(["\n".join(lines)]) == RunSettings(epochs=3).model_dump(exclude={"seed", "task"})
    assert next(line for line in lines if line.startswith("epochs")).split("  # ") == [
        f"{'epochs = 3':{lines[0].index('  #')}}",
        "passes over each lesson",
    ]


@pytest.mark.parametrize("kind", [RunSettings, InteractionSettings])
def test_every_parameter_has_a_meaning(kind):
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_a_parameter_that_came_later_changes_no_id_at_its_default():
    assert RunSettings().fingerprint == "80988ef9"
    assert (
        RunSettings(real_share=0.5).fingerprint != RunSettings().fingerprint == RunSettings(real_share=0.0).fingerprint
    )


def test_a_runner_without_history_still_passes_the_parameters():
    namespace = {"In": [""], "epochs": 4, "scale": "smoke", "task": object(), "os": object(), "n": 3}
    assert notebook_parameters(namespace) == {"epochs": 4, "scale": "smoke"}


def test_history_wins_over_a_name_that_was_used_again():
    namespace = {"In": ["", "task: str = 'miniature'\nseed: int = 1"], "task": object(), "seed": 5}
    assert notebook_parameters(namespace) == {"task": "miniature", "seed": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"method: [real\n", "not valid YAML"),
        (b"- real\n", "holds list; write one 'name: value' per line"),
        (b"", "holds nothing"),
        (b"null\n", "holds nothing"),
        (b"method: real\nseed: 1\nmethod: static\n", "line 3 says 'method' again"),
        (b"cells:\n  - {alpha: 1, alpha: 2}\n", "line 2 says 'alpha' again"),
        (b"method: r\xe9al\n", "not UTF-8 (byte 9)"),
        (b"1: real\n", "'1' is no name of a parameter"),
        (b"class: real\n", "'class' is no name of a parameter"),
        (b"\"__import__('os').getcwd();x\": 1\n", "is no name of a parameter"),
        (b"seed: " + b"1" * 5000 + b"\n", "not valid YAML"),
    ],
)
def test_a_malformed_params_file_is_one_sentence_that_names_it(tmp_path, content, words):
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=re.escape(words)) as told:
        read_params(path)
    assert str(told.value).startswith(f"{path}: ") and len(str(told.value)) < len(str(path)) + 260


@pytest.mark.parametrize(
    "given",
    [
        {"seed": 2**63},
        {"seed": -1},
        {"variant": "v" * 300},
        {"reports_dir": "~nobody_of_that_name/r"},
        {"reports_dir": "a\0b"},
    ],
)
def test_names_and_numbers_that_no_machine_can_hold_are_refused(given):
    with pytest.raises(SettingsError, match=next(iter(given))):
        make_settings(**given)


def test_derived_seeds_differ_in_every_part_and_stay_the_same():
    seeds = {derive_seed(s, g, stage) for s in range(3) for g in range(3) for stage in ("write", "student")}
    assert len(seeds) == 18
    assert derive_seed(1, 2, "write") == derive_seed(1, 2, "write") < 2**63


def test_names_of_runs():
    assert RunSettings(method="real", seed=3).name == "real-s3"
    assert RunSettings(method="recursive", variant="warm", seed=1).name == "recursive-warm-s1"
