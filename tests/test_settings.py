import re

import pytest

from symbiosis.settings import UNREPORTED, InteractionSettings, RunSettings, SettingsError, derive_seed, make_settings

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
    (
        {"mixing": "edit", "method": "symbiosis"},
        "mixing: 'edit' has the Student edit each real row once; set method to rec",
    ),
    ({"written_labels": "read", "filter_share": 0.5}, "written_labels: 'read' takes any label the Generator reads in"),
    (
        {"written_labels": "read", "method": "recursive"},
        "set method to symbiosis, static or pseudo_label, filter_share",
    ),
    ({"teaching_rows": "retrieved", "teaching_share": 0.0}, "teaching_rows: 'retrieved' are texts like the hard ones"),
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


def test_names_folders_and_seeds_follow_from_settings_each_of_which_says_what_it_sets():
    assert RunSettings(method="recursive", variant="warm", seed=1).name == "recursive-warm-s1"
    assert RunSettings().scale == UNREPORTED and RunSettings().folder != RunSettings(epochs=3).folder
    assert RunSettings(scale="mine").folder == RunSettings(scale="mine", epochs=3).folder == "mine/main/symbiosis-s0"

    seeds = {derive_seed(s, g, stage) for s in range(3) for g in range(3) for stage in ("write", "student")}
    assert len(seeds) == 18
    assert derive_seed(1, 2, "write") == derive_seed(1, 2, "write") < 2**63

    for kind in (RunSettings, InteractionSettings):
        assert [name for name, field in kind.model_fields.items() if not field.description] == []
