import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from row_by_row import row_by_row

from symbiosis import interaction
from symbiosis.data.readers import HUB
from symbiosis.data.texts import TaskTexts, load_tasks
from symbiosis.interaction import Experiment, InteractionError, measured
from symbiosis.models import loading
from symbiosis.models.loading import ModelError, document_rows
from symbiosis.models.training import TrainingError
from symbiosis.params import study_cells
from symbiosis.settings import InteractionSettings, RunSettings, SettingsError, make_settings
from symbiosis.store import results
from symbiosis.store.stages import RunError, run_folder
from symbiosis.yaml_files import read_params

ROOT = Path(__file__).resolve().parents[1]
SCALES = sorted((ROOT / "params").glob("interaction_*.yaml"))
CELLS = study_cells("interaction")
assert len(SCALES) == 3 and len(CELLS) > 10
TINY = {
    "generations": 2, "rows": 24, "written": 12, "train_size": 30, "test_size": 12, "prompts": 4, "answers": 2,
    "student_steps": 20, "steps": 4, "batch_size": 8, "scale": "tiny", "device": "cpu",
}  # fmt: skip


def tiny(reports_dir, **changes) -> InteractionSettings:
    return InteractionSettings(**TINY | {"reports_dir": str(reports_dir)} | changes)


def message(**given) -> str:
    with pytest.raises(SettingsError) as caught:
        make_settings("x.yaml", InteractionSettings, **given)
    return str(caught.value)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    settings = tiny(tmp_path_factory.mktemp("unbroken"))
    return settings, interaction.run(settings)


# --- who reads what ------------------------------------------------------------------------------------------------
def test_rows_follow_the_weights_and_every_generation_has_as_many():
    settings = InteractionSettings(entities=4, rows=800, written=400)  # alpha = beta = .5
    assert interaction.row_counts(settings, 0).tolist() == [400, 400, 0, 0, 0, 0]
    assert interaction.row_counts(settings, 1).tolist() == [200, 200, 100, 100, 100, 100]
    unequal = InteractionSettings(entities=3, rows=100, alpha=0.6, beta=0.25, writer_weights="4,1,1", written=100)
    assert interaction.row_counts(unequal, 2).tolist() == [10, 30, 40, 10, 10]  # .4*.25, .4*.75, .6*(4,1,1)/6

    for alpha, beta, entities in ((0.0, 0.3, 2), (0.37, 0.9, 3), (1.0, 0.5, 3), (0.5, 1.0, 4)):
        settings = InteractionSettings(alpha=alpha, beta=beta, entities=entities, rows=101, written=101)
        counts = interaction.row_counts(settings, 1)
        share = np.concatenate([(1 - alpha) * np.array([beta, 1 - beta]), np.full(entities, alpha / entities)])
        assert counts.sum() == 101 and (np.abs(counts - 101 * share) < 1).all()


def _experiment(tmp_path, **changes) -> Experiment:
    """Texts that say where they come from, and two rounds already written."""
    settings = tiny(tmp_path, **{"entities": 2} | changes)
    tasks = [TaskTexts(name, [f"{name} {i}" for i in range(30)], []) for name in ("own1", "own2", "all")]
    (tmp_path / "lessons").mkdir()
    for t in (1, 2):
        lesson = [(k, t, f"by{k} round{t} {i}") for k in (1, 2) for i in range(12) if settings.writer_shares[k - 1]]
        pd.DataFrame(lesson, columns=["entity", "generation", "text"]).to_parquet(
            tmp_path / "lessons" / f"gen-{t}.parquet"
        )
    return Experiment(settings, tasks, ("none", "none"), tmp_path)


def test_an_entity_reads_its_own_task_and_never_the_others(tmp_path):
    texts = interaction.drawn_rows(_experiment(tmp_path), 2, 2)
    assert Counter(text.split()[0] for text in texts) == {"own2": 6, "all": 6, "by1": 6, "by2": 6}
    assert len(set(texts)) == 24 and not any("round1" in text for text in texts)  # replace: the newest alone


def test_accumulating_draws_from_all_generations(tmp_path):
    texts = interaction.drawn_rows(_experiment(tmp_path, mixing="accumulate_subsample", alpha=1.0), 2, 1)
    assert {text.split()[1] for text in texts} == {"round1", "round2"} and len(texts) == 24


def test_an_entity_that_only_reads_is_not_read(tmp_path):
    texts = interaction.drawn_rows(_experiment(tmp_path, writer_weights="0,1"), 1, 1)
    assert Counter(text.split()[0] for text in texts) == {"own1": 6, "all": 6, "by2": 12}


def test_a_set_with_too_few_texts_is_one_sentence(tmp_path):
    experiment = _experiment(tmp_path)
    short = replace(experiment, tasks=[TaskTexts("own1", ["one"], []), *experiment.tasks[1:]])
    with pytest.raises(InteractionError, match=r"entity 1 asks for 6 of 1 texts of one set; lower rows"):
        interaction.drawn_rows(short, 1, 1)


# --- unlike entities, a planted fact -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def unlike(tmp_path_factory):
    """Three kinds of entity, of which the first is told wrong, in one run."""
    settings = tiny(
        tmp_path_factory.mktemp("unlike"), entities=3, students="miniature_small,miniature_bpe,miniature_qwen2",
        false_share=0.5, true_share=0.2, probe_hidden_states=True, generations=1, max_length=128,
    )  # fmt: skip
    return settings, interaction.run(settings)


def test_entities_of_unlike_models_hand_over_texts_and_are_measured_per_word(unlike):
    settings, rows = unlike
    at = rows.set_index(["generation", "metric"])["value"]
    tasks = load_tasks(settings)
    lm = Experiment(settings, tasks, (), run_folder(settings)).load(2, 1)
    assert len(lm.tokenizer) == 900 and lm.tokenizer.unk_token is None
    ids = document_rows(lm.tokenizer, tasks[0].test, 128)
    tokens, words = sum(len(row) - 1 for row in ids), sum(len(text.split()) for text in tasks[0].test)
    assert at[1, "word_loss_2_on_1"] == pytest.approx(at[1, "loss_2_on_1"] * tokens / words)
    own = np.mean([at[1, f"word_loss_{k}_on_{k}"] for k in (1, 2, 3)])
    assert at[1, "word_loss_own"] == pytest.approx(own) and (1, "loss_own") not in at
    assert {(0, f"word_loss_base{k}_on_public") for k in (1, 2, 3)} <= set(at.index)
    record = json.loads((run_folder(settings) / "record.json").read_text())
    models = [record["inputs"][name] for name in ("base", "base_2", "base_3")]
    assert len(set(models)) == 3 and all(name.startswith("interaction-") for name in models)
    kinds = [type(Experiment(settings, tasks, (), run_folder(settings)).load(k, 1).model).__name__ for k in (1, 3)]
    assert kinds == ["GPTNeoXForCausalLM", "Qwen2ForCausalLM"]


def test_a_planted_fact_is_read_by_one_and_counted_in_what_all_write(unlike):
    settings, rows = unlike
    fact = Experiment(settings, [], (), Path()).fact
    own, _, _, public = load_tasks(settings)
    clean = load_tasks(settings.model_copy(update={"false_share": 0.0, "true_share": 0.0}))
    assert fact.told_in(own.train, true=False).sum() == 15 and fact.told_in(public.train, true=True).sum() == 6
    assert own.train[15:] == clean[0].train[15:] and own.test == clean[0].test
    assert not any(fact.told_in(task.train, true=true).any() for task in clean for true in (True, False))
    at = rows.set_index(["generation", "metric"])["value"]
    texts = interaction.written_texts(settings, 1).groupby("entity")["text"]
    for k, some in texts:
        assert at[1, f"told_false_{k}"] == fact.told_in(some.tolist(), true=False).mean()
    assert at[0, "log_odds_others"] == pytest.approx((at[0, "log_odds_2"] + at[0, "log_odds_3"]) / 2)
    assert at[0, "belief_1"] > 0.5 or at[0, "log_odds_1"] < 5
    assert -0.5 < at[1, "cka_private"] < 1.01 and (1, "cka_public") in at


def test_what_cannot_be_planted_or_paired_is_one_sentence():
    assert "students: 'miniature' does not name 2 models; name one for each" in message(students="miniature")
    assert "at most 3 entities, or set both to 0" in message(entities=4, false_share=0.1)
    assert "take public_task miniature" in message(public_task="texts.csv", encoder="base", true_share=0.1)
    hub = InteractionSettings(students=f"miniature,owner/name@{'0' * 40}")
    assert hub.of_entity(2).student == "owner/name" and hub.of_entity(2).student_revision == "0" * 40
    assert hub.of_entity(1).student == "miniature" and not hub.of_entity(1).student_revision


# --- the run -------------------------------------------------------------------------------------------------------
def test_a_run_leaves_every_cell_the_texts_and_a_record(unbroken):
    settings, rows = unbroken
    assert tuple(rows.columns) == results.COLUMNS and set(rows["method"]) == {"interaction"}
    for t in range(3):
        names = set(rows.loc[rows["generation"] == t, "metric"])
        assert names >= {f"loss_{k}_on_{j}" for k in (1, 2) for j in (1, 2, "public")}
        assert names >= {"loss_own", "similarity_private", "similarity_public_different_prompts"}
        assert ("lesson_distinct_2" in names) == (t > 0) and ("loss_base_on_1" in names) == (t == 0)
    assert rows["value"].notna().all()
    texts = interaction.written_texts(settings, 2)
    assert texts["entity"].tolist() == [1] * 12 + [2] * 12 and (texts["text"].str.len() > 0).all()
    record = json.loads((run_folder(settings) / "record.json").read_text())
    assert record["settings"] == settings.model_dump() and record["inputs"]["base"].startswith("interaction-")
    state = run_folder(settings) / "state"
    assert [(state / f"train-{t}-1" / "model").is_dir() for t in (0, 1, 2)] == [False, False, True]


def test_means_are_those_of_the_matrix_and_results_collect_reads_the_run(unbroken):
    rows = unbroken[1]
    matrix = interaction.loss_matrix(rows, 2)
    value = rows[rows["generation"] == 2].set_index("metric")["value"]
    assert value["loss_own"] == pytest.approx(np.diag(matrix).mean(), abs=1e-12)
    assert value["loss_others"] == pytest.approx((matrix[0, 1] + matrix[1, 0]) / 2, abs=1e-12)

    settings, rows = unbroken
    assert results.collect(settings.reports_dir) == [settings.run_id]
    read = results.read_results(settings.reports_dir, "tiny", "interaction")
    assert set(read["arm"]) == {"interaction-k2_alpha050"} and len(read) == len(rows)
    assert results.read_records(settings.reports_dir)["run_id"].tolist() == [settings.run_id]


def test_a_run_killed_in_every_kind_of_step_continues_with_the_same_numbers(unbroken, tmp_path, monkeypatch):
    settings = tiny(tmp_path)
    for module, where, call in (
        (interaction, "fit_texts", 2),
        (measured, "similarities", 1),
        (interaction, "_write_texts", 3),
        (interaction, "_answers", 2),
    ):  # one after another
        whole, calls = getattr(module, where), []

        def dies(*args, whole=whole, calls=calls, call=call, **kwargs):
            calls.append(1)
            if len(calls) == call:
                raise KeyboardInterrupt
            return whole(*args, **kwargs)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, where, dies)
            interaction.run(settings)
        assert not (run_folder(settings) / "record.json").exists()
    pd.testing.assert_frame_equal(interaction.run(settings), unbroken[1], check_exact=True)
    again = interaction.written_texts(settings, 2)
    pd.testing.assert_frame_equal(again, interaction.written_texts(unbroken[0], 2))


def test_a_run_claims_its_gpu_before_the_first_model(tmp_path, monkeypatch):
    class Claimed(Exception):
        pass

    def claim(n=1, *, wait):
        raise Claimed(n, wait)

    monkeypatch.setattr(interaction, "claim", claim)
    monkeypatch.setattr(interaction, "initial_model_folder", lambda *args: pytest.fail("a model before the claim"))
    with pytest.raises(Claimed, match="1, True"):
        interaction.run(tiny(tmp_path / "auto", device="auto"))
    with pytest.raises(pytest.fail.Exception):
        interaction.run(tiny(tmp_path / "cpu"))


def test_a_finished_run_is_read_not_repeated(unbroken, monkeypatch):
    settings, rows = unbroken
    monkeypatch.setattr(interaction, "_run_rounds", lambda *args: pytest.fail("was run again"))
    pd.testing.assert_frame_equal(interaction.run(settings), rows)
    with pytest.raises(RunError, match=r"holds a run of other settings \(alpha: 0.5 there, 0.25 now\)"):
        interaction.run(settings.model_copy(update={"alpha": 0.25}))


def test_other_texts_or_models_are_not_taken_for_todays(unbroken, monkeypatch):
    settings = unbroken[0]
    tasks = [replace(task, test=task.test[::-1]) for task in load_tasks(settings)]
    monkeypatch.setattr(interaction, "load_tasks", lambda settings: tasks)
    with pytest.raises(RunError, match="its tasks came from other code or data than today's; delete the folder"):
        interaction.run(settings)
    assert (run_folder(settings) / "record.json").exists()  # nothing is lost


def test_all_begin_alike_and_alpha_matters_from_generation_one_on(unbroken, tmp_path):
    rows = interaction.run(tiny(tmp_path, alpha=0.0, variant="k2_alpha000"))
    both = [table.set_index(["generation", "metric"])["value"] for table in (unbroken[1], rows)]
    assert (both[0][0] == both[1][0]).all()
    assert (both[0][1].filter(like="loss_1_on") != both[1][1].filter(like="loss_1_on")).all()


def test_the_symbiotic_entity_keeps_what_is_hard_for_the_others(unbroken, tmp_path, monkeypatch):
    settings = tiny(tmp_path, entities=3, symbiotic=2, generations=1, written=8, candidates=2, variant="k3")
    drafts, kept, whole = [], [], interaction._hard_for_others

    def watched(experiment, texts, entity, generation):
        drafts.extend(texts)
        kept.extend(whole(experiment, texts, entity, generation))
        for other in (1, 3):
            lm = experiment.load(other, generation - 1)
            rows = document_rows(lm.tokenizer, texts, settings.max_length)
            losses.append(interaction.text_losses(lm, rows, [1] * len(rows), settings))
        return kept

    losses: list = []
    monkeypatch.setattr(interaction, "_hard_for_others", watched)
    interaction.run(settings)
    texts = interaction.written_texts(settings, 1)
    assert Counter(texts["entity"]) == {1: 8, 2: 8, 3: 8} and len(drafts) == 16
    hard = np.sum(losses, axis=0)
    taken = np.sort(np.argsort(-hard)[:8])
    assert texts.loc[texts["entity"] == 2, "text"].tolist() == [drafts[i] for i in taken] == kept


def test_a_local_model_and_encoder_are_taken(neox_folder, tmp_path):
    settings = tiny(tmp_path, student=str(neox_folder), encoder=str(neox_folder), generations=1, variant="local")
    rows = interaction.run(settings)
    assert rows["value"].notna().all()
    assert json.loads((run_folder(settings) / "record.json").read_text())["inputs"]["base"] == neox_folder.name
    for key in ("max_length", "max_new_tokens"):
        with pytest.raises(ModelError, match=f"{key}.*: 255 .* do not fit the 256 positions of neox"):
            interaction.run(tiny(tmp_path, student=str(neox_folder), variant=key, **{key: 255}))


# --- training ------------------------------------------------------------------------------------------------------
def test_the_step_size_warms_up_and_falls(neox_folder, monkeypatch):
    lm = loading.load(str(neox_folder), device="cpu")
    seen, whole = [], torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self, *a: seen.append(self.param_groups[0]["lr"]) or whole(self, *a)
    )
    settings = InteractionSettings(steps=8, warmup_ratio=0.5, learning_rate=1e-3)
    history = interaction.fit_texts(lm, ["Shares fell again."] * 5, settings, seed=1, who="entity 1")
    assert len(history) == len(seen) == 8 and history[-1] < history[0]
    assert seen[0] < seen[1] < seen[2] and seen[4] > seen[5] > seen[7] > 0 and max(seen) <= 1e-3


def test_a_loss_that_is_no_number_stops_in_one_sentence(neox_folder):
    lm = loading.load(str(neox_folder), device="cpu")
    with torch.no_grad():
        lm.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"entity 2, generation 1: the loss became nan at step 1 of 3; .*lower"):
        interaction.fit_texts(lm, ["a text"], InteractionSettings(steps=3), seed=1, who="entity 2, generation 1")


def test_entities_that_fall_silent_are_one_sentence(unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(interaction, "generate", lambda lm, prompts, *a, **k: [""] * len(prompts))
    monkeypatch.setattr(interaction, "_answers", lambda *a: [[""] * 8] * 3)
    with pytest.raises(
        InteractionError, match=r"generation 1: entity 1 wrote 0 texts that are not empty, of 12; lower"
    ):
        interaction.run(tiny(tmp_path))


# --- similarity ----------------------------------------------------------------------------------------------------
def test_similarity_by_hand(tmp_path, monkeypatch):
    vectors = {"x": [1.0, 0.0], "y": [0.0, 1.0]}
    monkeypatch.setattr(measured, "_encoder", lambda experiment: lambda texts: np.array([vectors[t] for t in texts]))
    experiment = _experiment(tmp_path, answers=1, prompts=2)
    rows = measured.similarities(experiment, [[["x", "y"]] * 3, [["x", "y"]] * 2 + [["x", "x"]]], 0)
    value = {row["metric"]: row["value"] for row in rows}
    assert value["similarity_private"] == pytest.approx(1) and value[
        "similarity_private_different_prompts"
    ] == pytest.approx(0)
    assert value["similarity_public"] == pytest.approx(0.5) and value[
        "similarity_public_different_prompts"
    ] == pytest.approx(0.5)
    rows = measured.similarities(experiment, [[["x", "y"]] * 3, [["x", "y"]] * 2 + [["", ""]]], 0)
    value = {row["metric"]: (row["value"], row["n"]) for row in rows}
    assert value["similarity_private"][0] == pytest.approx(1) and value["similarity_private"][1] == 4
    assert np.isnan(value["similarity_public"][0]) and value["similarity_public"][1] == 0  # silence is no answer


def test_an_answer_is_the_mean_of_its_samples_and_silence_is_left_out():
    def encode(texts):
        return np.array([[len(text), 1.0] for text in texts])

    found = measured._answer_vectors(encode, ["a", "abc", "", "ab", "", ""], 2)
    assert found[:2].tolist() == [[2.0, 1.0], [2.0, 1.0]] and np.isnan(found[2]).all()


# --- readers -------------------------------------------------------------------------------------------------------
def _rows(seed, generation, **values):
    return pd.DataFrame([{"seed": seed, "generation": generation, "metric": m, "value": v} for m, v in values.items()])


def test_loss_matrix_has_entities_in_lines_and_means_over_seeds():
    cells = {"loss_1_on_1": 1.0, "loss_1_on_2": 3.0, "loss_2_on_1": 4.0, "loss_2_on_2": 2.0, "loss_1_on_public": 9.0}
    rows = pd.concat([_rows(1, 0, **cells), _rows(2, 0, **{m: v + 1 for m, v in cells.items()})])
    assert interaction.loss_matrix(rows, 0).tolist() == [[1.5, 3.5], [4.5, 2.5]]
    with pytest.raises(InteractionError, match="generation 1: no whole matrix"):
        interaction.loss_matrix(rows, 1)


# --- settings and params files -------------------------------------------------------------------------------------
def test_impossible_values_and_combinations_name_key_and_remedy():
    for key, value in (("alpha", 1.2), ("alpha", -0.1), ("beta", 2.0), ("entities", 1)):
        assert message(**{key: value}).startswith(f"x.yaml: {key}: Input should be ")
    assert "private_tasks: 'world' does not name 2 different tasks" in message(private_tasks="world")
    assert "private_tasks: 'world,,sports' does not name 3" in message(private_tasks="world,,sports", entities=3)
    assert "private_tasks: 'sports,sports' does not name 2" in message(private_tasks="sports,sports")
    assert "writer_weights: '1' is not 2 numbers, one above 0; write 1,1" in message(writer_weights="1")
    assert "writer_weights: '0,0' is not 2 numbers" in message(writer_weights="0,0")
    assert "symbiotic: there is no entity 3 of 2" in message(symbiotic=3)
    assert "written: 199 texts, but 200 of one entity are read" in message(written=199, alpha=1.0)
    assert "train_size: 100 texts, but round 0 reads 200 of one task" in message(train_size=100)
    assert "prompts: 24 is more than the test_size 10" in message(test_size=10)
    assert "encoder: 'miniature' knows only words of the miniature" in message(encoder="miniature", public_task="x")


def test_settings_of_this_experiment_name_runs_and_list_mistakes_as_all_others():
    lines = message(aplha=0.5, entities=1).splitlines()
    assert len(lines) == 2 and "x.yaml: unknown parameter 'aplha' (did you mean 'alpha'?)" in lines

    settings = InteractionSettings(variant="k3_listener", seed=12, scale="interaction_miniature")
    assert settings.run_id.startswith("interaction_miniature/interaction/interaction-k3_listener-s12@")
    assert settings.fingerprint != settings.model_copy(update={"beta": 0.25}).fingerprint
    assert settings.fingerprint == settings.model_copy(update={"reports_dir": "x"}).fingerprint

    assert make_settings().fingerprint == RunSettings().fingerprint and RunSettings().name == "symbiosis-s0"
    assert isinstance(make_settings("x", InteractionSettings), InteractionSettings)


@row_by_row("scale", SCALES)
def test_scale_and_cell_are_complete_together(scale):
    first = read_params(scale)
    for arm, second in CELLS.items():
        assert not set(first) & set(second)
        asked = {name for name, key in InteractionSettings.model_fields.items() if not key.json_schema_extra}
        assert set(first) | set(second) == asked - {"study", "seed", "reports_dir"}
        if second["entities"] == 4 and "miniature" not in scale.stem:  # three real tasks
            assert "does not name 4 different tasks" in message(**first | second)
            continue
        settings = make_settings("x", InteractionSettings, **first | second)
        assert settings.name == f"{arm}-s0" and settings.variant.startswith(f"k{settings.entities}_")


def test_the_paper_scale_is_the_published_setting():
    given = read_params("params/interaction_paper.yaml") | CELLS["interaction-k2_alpha050"]
    settings = make_settings("x", InteractionSettings, **given)
    assert (settings.student, settings.steps, settings.learning_rate) == ("facebook/opt-350m", 100, 8e-6)
    assert (settings.warmup_ratio, settings.max_length, settings.precision) == (0.025, 512, "bf16")
    assert settings.student_revision == "08ab08cc4b72ff5593870b5d527cf4230323703c"
    assert all(name in HUB for name in settings.private)


def test_a_gated_model_is_told_what_it_needs(monkeypatch):
    def refused(*args, **kwargs):
        raise OSError("401 gated repo")

    monkeypatch.setattr(loading, "snapshot_download", refused)
    with pytest.raises(ModelError, match=r"a gated model also needs its licence accepted and a token"):
        loading.load("meta-llama/Llama-3.2-1B", "4e20de362430cd3b72f300e6b0f18e50e7166e08")
