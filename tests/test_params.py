"""What params/ holds: arms, studies, and that every committed run is one of them."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from symbiosis import batch, params
from symbiosis.settings import InteractionSettings, RunSettings, SettingsError, fingerprint, make_settings
from symbiosis.yaml_files import read_params

ROOT = Path(__file__).resolve().parents[1]
FIRST_RUNS = {  # parameters that runs of agnews_small were made without; today they stand at their defaults
    "pool_skew", "dev_rows", "attributes",
    "first_lesson_sources", "feedback_student", "skip_hardest_share", "max_similarity",
    "pool_share", "candidates", "soft_labels", "update_temperature", "dpo_beta", "generator_lora_rank",
}  # fmt: skip


def settings_of(run: batch.Run) -> RunSettings | InteractionSettings:
    kind = InteractionSettings if run.arm.startswith("interaction") else RunSettings
    if (history := ROOT / f"params/history/{run.scale}.yaml").is_file():  # cannot be run any more, so it is not checked
        arm = params.all_arms()[run.arm] | params.study_world(run.study)
        return kind.model_construct(**read_params(history) | arm | {"seed": run.seed})
    return make_settings(run.folder, kind, **run.parameters())


def later_keys(settings: RunSettings | InteractionSettings) -> set[str]:
    return {key for key, field in type(settings).model_fields.items() if field.json_schema_extra}


def test_history_is_no_scale_and_its_models_name_their_successor():
    for path in (ROOT / "params/history").glob("*.yaml"):
        with pytest.raises(batch.BatchError, match=f"no params/{path.stem}.yaml says"):
            batch.plan(path.stem)
    for kind in (RunSettings, InteractionSettings):
        with pytest.raises(SettingsError, match="'small' is no longer made, its rows are history; take smollm2-135m"):
            make_settings("x.yaml", kind, student="small")


# ---- committed runs
def test_the_id_of_every_committed_run_follows_from_params():
    old = []
    for run_id in pd.read_csv(ROOT / "reports" / "records.csv")["run_id"]:
        scale, study, name = run_id.partition("@")[0].split("/")
        arm, seed = name.rsplit("-s", 1)
        settings = settings_of(batch.Run(scale, study, arm, int(seed)))
        if scale.startswith("interaction"):
            made = settings.model_dump(
                exclude={"reports_dir", *(later_keys(settings) if study == "interaction" else ())}
            )
            assert settings.run_id == run_id and (study != "interaction" or run_id.endswith(f"@{fingerprint(made)}"))
        elif settings.run_id != run_id:
            assert all(getattr(settings, key) == RunSettings.model_fields[key].default for key in FIRST_RUNS)
            first = settings.model_dump(exclude={"reports_dir", "keep_checkpoints"} | later_keys(settings) | FIRST_RUNS)
            assert run_id.endswith(f"@{fingerprint(first)}"), run_id
            old.append(f"{scale}/{study}")
    assert old == ["agnews_small/main"] * 18


BEGUN = {
    "choice_and_writing",
    "choice_and_writing_2000",
    "choice_and_writing_plain",
    "choice_and_writing_plain_300",
    "held",
    "ladder_0",
    "ladder_16",
    "ladder_32",
    "ladder_128",
    "ladder_512",
    "teach",
}  # some of their arms have been run


def test_committed_runs_are_those_their_studies_plan():
    rows = pd.read_csv(ROOT / "reports" / "results.csv").query("scale == 'miniature'")
    by_study = rows["run_id"].str.extract(r"/(?P<study>\w+)/(?P<arm>.+)-s\d+@").groupby("study")["arm"].unique()
    assert len(by_study) > 10
    for study, arms in by_study.items():
        extra = params.named_arms(["controls"]) if study == "main" else []
        planned = {*params.arms_of(study), *extra}
        run = set(arms) - set(params.study_twins(study))
        assert run <= planned if study in BEGUN else run == planned, study


# ---- studies.yaml
def test_a_cell_is_its_base_and_the_lines_in_which_it_differs():
    best, cells = read_params("params/symbiosis_best.yaml"), params.study_cells("ablation")
    assert len(cells) == 18 + 11 and list(cells) == sorted(cells)
    for arm, cell in cells.items():
        assert arm.startswith(f"symbiosis-{cell['feedback']}_{cell['generator_update']}_{cell['candidates']}")
    assert cells["symbiosis-margin_none_3"] == best | {"variant": "margin_none_3", "feedback": "margin"}
    crossed = params.study_cells("ratio_or_diversity")
    assert crossed["oracle-r010_low"] == {
        "method": "oracle", "variant": "r010_low", "real_share": 0.1, "subtopic_power": 60.0, "label_noise": 0.0,
    }  # fmt: skip
    assert len(crossed) == 5 * 6 + 1 and params.study_cells("rare_tail") == {}


def test_every_rung_of_the_ladder_spends_as_many_labels_in_every_arm():
    for labels in (16, 32, 128, 512):
        rung = [settings_of(run) for run in batch.plan("miniature", [f"ladder_{labels}"], seeds=1)]
        assert len(rung) == 6 + (labels < 512) and {(one.dev_size, one.train_size) for one in rung} == {
            (labels, labels)
        }
        for one in rung:  # of 512 rows 256 or more come in turn: three lessons use all
            assert one.real_share == 1 or (
                one.dev_rows_in_turn and one.generations * min(one.dev_rows, labels) >= labels
            )


def test_what_is_chosen_is_crossed_with_what_is_done():
    cells = {
        tuple(arm.split("-")[1].split("_")): cell for arm, cell in params.study_cells("choice_and_writing").items()
    }
    crossed = {names: cell for names, cell in cells.items() if len(names) == 2}
    factors = (
        {"first_lesson_sources", "feedback", "feedback_student"},
        {"teaching_share", "pool_share", "candidates", "hard_examples"},
    )
    assert len(crossed) == 4 * 3 and len(cells) == 12 + 3
    for factor, keys in enumerate(factors):
        levels = {}
        for names, cell in crossed.items():
            levels.setdefault(names[factor], []).append({key: cell.get(key) for key in keys})
        for level in levels.values():
            assert all(other == level[0] for other in level)
        assert len({str(level[0]) for level in levels.values()}) == (4, 3)[factor]


def test_twins_are_the_same_arm_in_the_same_world():
    for study in params.read_studies()["studies"]:
        for arm, twin in params.study_twins(study).items():
            own, other = (batch.Run("miniature", *names, 11) for names in ((study, arm), (twin["study"], twin["arm"])))
            named = {"study", "variant"}
            assert settings_of(own).model_dump(exclude=named) == settings_of(other).model_dump(exclude=named)
            assert arm not in params.arms_of(study) and twin["arm"] in params.arms_of(twin["study"])
    assert len(params.study_twins("ablation")) == 2


def test_an_arm_has_its_base_but_for_the_lines_that_name_it():
    arms = params.all_arms()
    for control, base, own in (
        ("symbiosis-random", "symbiosis", {"feedback"}),
        ("symbiosis-best_random", "symbiosis-best", {"feedback"}),
        ("recursive-warm_t1", "recursive-warm", {"top_p"}),
        ("static-attributes", "static", {"attributes"}),
    ):
        differs = {key for key, value in arms[control].items() if arms[base].get(key) != value}
        assert differs == own | {"variant"} and set(arms[base]) <= set(arms[control])


def test_arms_have_one_name_each_and_every_group_leads_to_some():
    assert params.named_arms(["symbiosis_best", "symbiosis-best"]) == ["symbiosis-best"]
    assert params.named_arms(["no_pool", "static"]) == ["static", "symbiosis-fresh_filtered"]
    assert params.named_arms(["mixing"]) == list(params.study_cells("mixing"))
    for group in params.read_studies()["groups"]:
        assert params.named_arms([group])


def test_a_study_changes_the_world_for_every_arm_alike():
    for study in params.read_studies()["studies"]:
        scale = "interaction_miniature" if study.startswith("interaction") else "miniature"
        world = params.study_world(study)
        assert world.pop("study") == study
        planned = batch.plan(scale, [study], seeds=2)
        assert len(planned) == 2 * len({str(params.all_arms()[run.arm]) for run in planned})  # no arm twice
        for run in planned:
            settings = settings_of(run)
            assert run.folder == f"reports/local/runs/{settings.folder}" and settings.study == study
            made = settings.model_dump()
            of_arm = {key for key in world if made[key] != world[key]}
            assert all(made[key] == params.all_arms()[run.arm][key] for key in of_arm) and of_arm <= {"teach_rounds"}
        kind = InteractionSettings if study.startswith("interaction") else RunSettings
        normal = kind().model_dump() | params.files()[scale]
        assert not world or any(normal[key] != value for key, value in world.items())


def test_a_misspelt_arm_is_refused_with_the_nearest_name():
    with pytest.raises(SettingsError, match=r"ARMS=symbiosis_bset: .*did you mean 'symbiosis_best'"):
        params.named_arms(["symbiosis_bset"])
    with pytest.raises(SettingsError, match="no such arm"):
        params.named_arms(["rare_tail"])


# ---- files
def test_files_of_a_reader_are_scales_and_methods_by_their_keys(tmp_path, monkeypatch):
    for name in ("params", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("own"))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "params" / "own"
    own.mkdir()
    (own / "of_a_test.yaml").write_text("scale: of_a_test\ntask: data/of_a_test\nmethod: static\n")
    (own / "mine.yaml").write_text("method: symbiosis\nvariant: mine\nepochs: 3\n")
    params.files.cache_clear(), params.all_arms.cache_clear()
    assert "of_a_test" not in params.files()  # what a reader adds turns no other test red
    monkeypatch.setattr(params, "PLACES", ("params", params.OWN))
    params.files.cache_clear()
    try:
        (run,) = batch.plan("of_a_test", arms=["symbiosis_mine"], seeds=1)
        assert (run.parameters()["task"], run.parameters()["epochs"], run.parameters()["method"]) == (
            "data/of_a_test", 3, "symbiosis",
        )  # fmt: skip
        (own / "again.yaml").write_text("method: symbiosis\nepochs: 3\n")
        params.files.cache_clear(), params.all_arms.cache_clear()
        with pytest.raises(SettingsError, match=r"own/again\.yaml: there is an arm 'symbiosis'; give yours another"):
            params.all_arms()
        (own / "paper.yaml").write_text("scale: paper\n")
        params.files.cache_clear()
        with pytest.raises(SettingsError, match=r"params/own/paper\.yaml: .* give it another name"):
            params.files()
    finally:
        params.files.cache_clear(), params.all_arms.cache_clear()
