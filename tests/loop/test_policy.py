"""A Generator that learns to teach: values, advantages, rounds, and a run that goes on where it was killed."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import NEWS
from row_by_row import row_by_row
from scipy.stats import spearmanr
from test_runs import tiny

from symbiosis.loop import influence, policy, runs
from symbiosis.loop.policy import Drafts, label_losses, snapshots, standardised, taught, teach_round
from symbiosis.models import loading
from symbiosis.models.generator import POLICY_STEPS, Generator, policy_batches
from symbiosis.models.proxies import FITS, ProxyStudent, fit_head, values
from symbiosis.models.ranks import TrainingError
from symbiosis.models.scoring import text_losses
from symbiosis.settings import RunSettings, SettingsError, make_settings
from symbiosis.store import stages
from symbiosis.store.record import read_record

TEACH = {
    "variant": "teach", "generator_update": "teach", "teaching_share": 0.0, "generations": 2, "teach_rounds": 2,
    "teach_drafts": 24, "generation_engine": "refill",
}  # fmt: skip


# --- the policy gradient -------------------------------------------------------------------------------------------
@pytest.fixture
def generator(qwen_folder):
    settings = RunSettings(max_new_tokens=24, generation_batch_size=4)
    return Generator(loading.load(str(qwen_folder), device="cpu"), list(NEWS), settings)


def answers_of(generator):
    labels = np.arange(8) % 4
    texts = [text for pair in NEWS.values() for text in pair]
    return generator.answered(generator.write_turns(labels), [texts[2 * (i % 4) + i // 4] for i in range(8)])


def log_p(generator, answered) -> np.ndarray:
    return -text_losses(generator.lm, *answered, generator.settings)


def test_reinforced_answers_become_likelier_and_the_others_less_likely(generator):
    answered, advantage = answers_of(generator), np.array([1.0, -1, 1, -1, -1, 1, -1, 1])
    before = log_p(generator, answered)
    history = generator.reinforce(answered, advantage, seed=0)
    assert len(history) == POLICY_STEPS
    moved = log_p(generator, answered) - before
    assert (moved * advantage > 0).all()


@row_by_row("at_a_time", [1, 256])
def test_the_policy_loss_is_the_formula(generator, at_a_time):
    settings = generator.settings.model_copy(update={"generation_batch_size": at_a_time})
    generator = replace(generator, settings=settings)
    answered, advantage = answers_of(generator), np.linspace(-1, 2, 8)
    rows, lengths = answered
    tokens = np.array([len(row) for row in rows]) - lengths
    log_p_sum = tokens * log_p(generator, answered)
    first = np.array_split(np.random.default_rng(3).permutation(8), POLICY_STEPS)[0]
    expected = -(advantage * log_p_sum)[first].sum() / tokens[first].sum()
    assert generator.reinforce(answered, advantage, seed=3)[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_only_the_last_layers_learn_and_all_can_afterwards(generator):
    layers = generator.lm.model.get_decoder().layers
    settings = generator.settings.model_copy(update={"teach_layers": 1})
    before = {name: p.detach().clone() for name, p in generator.lm.model.named_parameters()}
    replace(generator, settings=settings).reinforce(answers_of(generator), np.linspace(-1, 2, 8), seed=3)
    moved = {name for name, p in generator.lm.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(f"layers.{len(layers) - 1}." in name for name in moved)
    assert all(p.requires_grad for p in generator.lm.model.parameters())
    many = replace(generator, settings=settings.model_copy(update={"teach_layers": len(layers) + 1}))
    with pytest.raises(
        TrainingError, match=f"teach_layers: {len(layers) + 1}, but the Generator has {len(layers)} layers"
    ):
        many.reinforce(answers_of(generator), np.ones(8), seed=0)
    for wrong in ({"generator_lora_rank": 2}, {"sharding": "fsdp", "num_processes": 2}):
        with pytest.raises(
            SettingsError, match="teach_layers: 1 layers learn with weights of their own; set generator"
        ):
            make_settings("x.yaml", **wrong, teach_layers=1)


def test_a_batch_reads_prompts_that_begin_alike():
    start = {"A": [1, 2, 3, 4], "B": [2, 3, 4, 1], "C": [3, 4, 1, 2], "D": [4, 1, 2, 3]}
    prompts = [[*start["ABCD"[i // 4 % 4]], 9, i % 4] for i in range(48)]
    batches = policy_batches(prompts, 0)
    assert sorted(np.concatenate(batches)) == list(range(48)) and len(batches) == POLICY_STEPS
    for batch in batches:
        assert len({tuple(prompts[i][:4]) for i in batch}) == 1 and {prompts[i][5] for i in batch} == {0, 1, 2, 3}
    for few in (
        [[1, 2, 3, i % 4] for i in range(48)],
        [[i % 4] * 4 for i in range(48)],
    ):  # one beginning, one prompt each
        drawn = np.array_split(np.random.default_rng(5).permutation(48), POLICY_STEPS)
        assert all(np.array_equal(a, b) for a, b in zip(policy_batches(few, 5), drawn, strict=True))


def test_drafts_learned_from_are_the_strongest_of_each_prompt():
    asked = ["a", "b", "a", "b", "a", "b", "c"]
    found = policy.strongest(np.array([0.1, 3.0, -2.0, 0.5, 1.0, -4.0, 0.0]), asked, 0.5)
    assert found.tolist() == [1, 2, 5, 6] or found.tolist() == [1, 2, 4, 5, 6]
    assert policy.strongest(np.arange(7.0), asked, 1.0).tolist() == list(range(7))


def test_drift_is_the_mean_log_ratio_per_token(generator):
    answered, frozen = (
        answers_of(generator),
        replace(generator, lm=generator.lm._replace(model=copy.deepcopy(generator.lm.model))),
    )
    assert policy.drift(generator, frozen, answered) == (pytest.approx(np.zeros(8)), 0.0)
    generator.reinforce(answered, np.ones(8), seed=0)
    far, kl = policy.drift(generator, frozen, answered)
    rows, lengths = answered
    tokens = np.array([len(row) for row in rows]) - lengths
    assert far == pytest.approx(tokens * (log_p(generator, answered) - log_p(frozen, answered)))
    assert kl == pytest.approx(far.sum() / tokens.sum()) and kl > 0


# --- advantages ----------------------------------------------------------------------------------------------------
def test_advantages_compare_drafts_of_one_label_and_are_cut_and_snapshots_are_of_the_second_half():
    labels = np.array([0, 0, 0, 1, 1])
    found = standardised(np.array([1.0, 2.0, 3.0, 100.0, 100.0]), labels)
    assert found == pytest.approx(np.array([-1, 0, 1, 0, 0]) / np.sqrt(2 / 5))
    assert (standardised(np.ones(5), labels) == 0).all()
    long = standardised(np.append(np.zeros(99), 1.0), np.zeros(100, dtype=int))
    assert long.max() == policy.CLIP and long.min() > -policy.CLIP

    assert snapshots(14) == [7, 11, 14] and snapshots(2) == [1, 2] and snapshots(1) == [1]


# --- values --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def state():
    settings = RunSettings(
        lesson_size=240, student_steps=100, train_size=480, pool_size=50, dev_size=64, test_size=50, seed=0,
        generator_steps=40, teach_drafts=48, generator_update="teach",
    )  # fmt: skip
    return runs.prepare(settings)


@pytest.fixture(scope="module")
def learned(state):
    """A Student after one real lesson, that lesson, and 60 real drafts of which every other has a wrong label."""
    rows = state.task.train
    lesson = Drafts(rows["text"][:240], np.array(rows["label"][:240])).lesson
    lm = state.student.lm
    exact = state.settings.model_copy(update={"dev_loss": "calibrated"})
    student = replace(state.student, lm=lm._replace(model=copy.deepcopy(lm.model)), settings=exact)
    student.learn(lesson, seed=1)
    labels = np.array(rows["label"][240:300])
    labels[::2] = (labels[::2] + 1) % 4
    return student, lesson, Drafts(rows["text"][240:300], labels)


def test_a_value_is_what_a_small_step_on_the_draft_does_to_the_dev_loss(state, learned):
    student, lesson, drafts = learned
    q = influence.teaching_direction(student, lesson, state.task.dev)
    questions = student.questions(drafts.texts)
    slopes = influence.directional_slopes(
        student, q, lambda: label_losses(student, questions, drafts.labels), policy.STEP
    )
    weights = list(student.lm.model.parameters())
    gradient = influence.dev_gradient(student, state.task.dev)
    scale = [x / torch.where(g == 0, torch.ones_like(g), g) for x, g in zip(q, gradient, strict=True)]
    changes = []
    for i in range(0, 60, 3):
        loss = -influence.label_scores(student, [questions[i]])[0, drafts.labels[i]]
        g = torch.autograd.grad(loss, weights, allow_unused=True)
        with influence.restored(student):
            for p, x, s in zip(weights, g, scale, strict=True):
                p.data -= 1e-4 * s * (0 if x is None else x)
            changes.append(dev_loss(student, state.task.dev))
    changes = (dev_loss(student, state.task.dev) - np.array(changes)) / 1e-4
    assert spearmanr(slopes[::3], changes)[0] > 0.95
    assert np.polyfit(slopes[::3], changes, 1)[0] == pytest.approx(1, abs=0.1)


def dev_loss(student, dev) -> float:
    with torch.no_grad():
        return sum(x.item() for x in influence.dev_losses(student, dev))


def test_values_are_told_apart_by_what_the_world_knows(state, learned):
    drafts, world = learned[2], state.task.world
    right, tail = policy.labels_right(drafts.texts, drafts.labels, world), world.in_tail(drafts.texts)
    assert 25 < right.sum() < 35 and tail.any()
    told = policy.values_by_truth(1.0 * right + 10.0 * tail, drafts, world)
    assert told == {"value_right_head": 1, "value_right_tail": 11, "value_wrong_head": 0, "value_wrong_tail": 10}
    assert policy.values_by_truth(right, drafts, None) == {}


def test_the_pool_is_held_out_with_the_frozen_generators_labels(state):
    settings = state.settings.model_copy(update={"teach_held_out": "pool"})
    asked, pool = replace(state, settings=settings), state.task.pool
    first, again, other = (policy.held_out(asked, state.generator, seed) for seed in (1, 1, 2))
    assert first["text"][:] == again["text"][:] != other["text"][:] and set(first["text"]) == set(pool["text"])
    assert first["label"][:] == state.generator.label_log_probs(first["text"]).argmax(1).tolist()
    assert policy.held_out(state, state.generator, 1) is state.task.dev


def test_a_round_leaves_the_student_and_asks_for_what_it_lacks_now(state):
    before = copy.deepcopy(state.student.lm.model.state_dict())
    found = policy.Values()
    fresh = [student.settings.dev_loss for student, _ in taught(state, found, 0)]
    assert fresh == ["calibrated"] * policy.STUDENTS and found.steps == policy.STUDENTS * 2 * 15
    lesson = Drafts(state.task.train["text"][:240], np.array(state.task.train["label"][:240])).lesson
    later, found = replace(state, lesson=lesson), policy.Values()
    student, first = next(taught(later, found, 0))
    assert first is lesson and found.steps == 0
    assert all(
        torch.equal(a, b)
        for a, b in zip(student.lm.model.parameters(), state.student.lm.model.parameters(), strict=True)
    )
    assert len([*taught(later, policy.Values(), 0)]) == policy.STUDENTS
    assert all(torch.equal(before[name], value) for name, value in state.student.lm.model.state_dict().items())


@row_by_row("reward", ["calibrated", "label"])
def test_a_round_changes_the_writer_and_tells_what_it_found(state, reward):
    settings = state.settings.model_copy(update={"teach_reward": reward, "lesson_size": 24})
    writer = replace(state.generator, lm=state.generator.lm._replace(model=copy.deepcopy(state.generator.lm.model)))
    told = teach_round(replace(state, settings=settings, generator=writer), state.generator, 0, 1)
    assert (
        told["kl"] == 0 and 40 < told["labelled"] <= 48 and told["policy_steps"] == POLICY_STEPS and told["cpu_s"] > 0
    )
    assert {"tail_mass", "tail_coverage", "label_purity", "distinct_2"} <= set(told)
    assert told["asked"] == told["labelled"] + told.get("student_rows", 0)
    assert ("dev_loss" in told) == ("reliability" in told) == ("student_steps" in told) == (reward == "calibrated")
    moved = zip(writer.lm.model.parameters(), state.generator.lm.model.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)


def test_imitating_the_rows_makes_them_likelier_when_asked_for_their_label(state):
    settings = state.settings.model_copy(update={"teach_reward": "rows", "generator_epochs": 3})
    writer = replace(state.generator, lm=state.generator.lm._replace(model=copy.deepcopy(state.generator.lm.model)))
    writer = replace(writer, settings=settings)
    told, dev = teach_round(replace(state, settings=settings, generator=writer), state.generator, 0, 1), state.task.dev
    assert set(policy.cost(told)) == {"policy_steps", "cpu_s"}  # no draft, no label call, no Student
    assert told["policy_steps"] == 3 * -(-len(dev) // settings.batch_size)
    asked = writer.answered(writer.write_turns(dev["label"]), dev["text"])
    others = writer.answered(writer.write_turns([(label + 1) % 4 for label in dev["label"]]), dev["text"])
    gain = log_p(writer, asked) - log_p(state.generator, asked)
    assert gain.mean() > 0 and gain.mean() > (log_p(writer, others) - log_p(state.generator, others)).mean()


@pytest.fixture(scope="module")
def quick(state):
    settings = state.settings.model_copy(update={"student": "probe", "feedback": "entropy"})
    return replace(state, settings=settings, student=runs.initial_student(settings, state.task), lesson=None)


@pytest.mark.parametrize("reward", ["calibrated", "plain"])
def test_a_quick_students_values_are_those_of_students_that_did_not_learn_the_draft(quick, learned, reward):
    asked = replace(quick, settings=quick.settings.model_copy(update={"teach_reward": reward}))
    drafts, dev = learned[2], quick.task.dev
    found = policy.quick_values(asked, drafts, dev, 7)
    assert len(found.of_students) == policy.STUDENTS and (found.written, found.steps) == (0, 3 * policy.FOLDS)
    assert found.rows == 3 * (policy.FOLDS - 1) * 60 and 0.2 < found.reliability < 1
    rng = np.random.default_rng(policy.derive_seed(7, 0, "folds"))
    part = np.array_split(rng.permutation(60), policy.FOLDS)[0]
    rows, others = quick.student.rows(drafts.lesson), [i for i in range(60) if i not in set(part)]
    lesson = rows._replace(x=rows.x[others], q=rows.q[others], w=np.full(45, asked.settings.lesson_size / 45))
    head, held = fit_head(*lesson, **FITS["probe"]), quick.student.rows(dev)
    gradient, _ = policy.dev_gradient(head, held, plain=reward == "plain")
    own = type(rows)(*(each[part] for each in rows))
    np.testing.assert_allclose(
        found.of_students[0][part], values(head, lesson, own, gradient, FITS["probe"]["strength"])
    )
    right = np.arange(60) % 2 == 1  # every other label of the drafts is wrong
    value = np.mean(found.of_students, axis=0)
    assert value[right].mean() > value[~right].mean()


def test_a_quick_student_that_had_a_lesson_values_drafts_as_it_is(quick, learned):
    lesson, drafts = learned[1], learned[2]
    student = ProxyStudent(**vars(quick.student))
    student.learn(lesson, seed=0)
    found = policy.quick_values(replace(quick, student=student, lesson=lesson), drafts, quick.task.dev, 7)
    assert len(found.of_students) == policy.STUDENTS and found.steps == (policy.STUDENTS - 1) * policy.FOLDS
    gradient, loss = policy.dev_gradient(student.head, student.rows(quick.task.dev), plain=False)
    assert found.dev_losses[0] == loss
    expected = values(
        student.head, student.rows(lesson), student.rows(drafts.lesson), gradient, FITS["probe"]["strength"]
    )
    np.testing.assert_allclose(found.of_students[0], expected)


def test_a_round_with_a_quick_student_asks_for_no_other_text(quick):
    writer = replace(quick.generator, lm=quick.generator.lm._replace(model=copy.deepcopy(quick.generator.lm.model)))
    settings = quick.settings.model_copy(update={"teach_learned": 0.5})
    told = teach_round(replace(quick, settings=settings, generator=writer), quick.generator, 0, 1)
    assert told["asked"] == told["labelled"] <= 48 and told["student_steps"] == 12
    moved = zip(writer.lm.model.parameters(), quick.generator.lm.model.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)


# --- runs ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def both(tmp_path_factory):
    settings = tiny(tmp_path_factory.mktemp("reports"), **TEACH | {"teach_when": "both", "teach_snapshots": "mixture"})
    return settings, runs.run(settings)


def test_a_run_that_teaches_has_a_stage_per_round_and_keeps_what_it_cost(both):
    settings, rows = both
    names = runs.stage_names(settings)
    rounds = [[f"round-{g}-{k}" for k in (1, 2)] for g in (0, 1)]
    assert names == ["student-0", *rounds[0], "lesson-1", "student-1", *rounds[1], "lesson-2", "student-2"]
    at = rows.set_index(["metric", "generation"])["value"]
    assert at["generator_kl", 0] != 0 and at["generator_kl", 1] != at["generator_kl", 0]
    counts = [each for each in read_record(settings)["writing_counts"] if each["step"] == "round"]
    assert [(each["generation"], each["round"]) for each in counts] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    steps = 2 * 2  # two epochs of two batches
    assert [each["student_steps"] for each in counts] == [3 * steps] * 2 + [2 * steps] * 2
    most = [3 * 24] * 2 + [2 * 24] * 2  # empty texts are left out
    assert all(0.8 * n < each["student_rows"] <= n for each, n in zip(counts, most, strict=True))
    assert all(each["asked"] == each["labelled"] + each["student_rows"] for each in counts)
    state = stages.run_folder(settings) / "state"
    assert not list(state.glob("round-*/model"))  # weights a later stage replaced
    told = json.loads((state / "round-0-2" / "result.json").read_text())["history"][0]
    assert {"reliability", "dev_loss", "value_right_tail", "kl", "tail_coverage"} <= set(told)


def test_a_taught_run_stopped_in_rounds_and_before_lessons_equals_an_unbroken_one(both, tmp_path):
    settings = both[0].model_copy(update={"reports_dir": str(tmp_path)})
    stops = ["round-0-2", "lesson-1", "round-1-2", "lesson-2"]  # for which all that rounds leave is read again
    assert set(stops) < set(runs.stage_names(settings))

    def stop_once(name):
        if name in stops:
            stops.remove(name)
            raise KeyboardInterrupt

    while stops:
        with pytest.raises(KeyboardInterrupt):
            runs.run(settings, on_stage=stop_once)
    rows = runs.run(settings)
    np.testing.assert_array_equal(rows["value"], both[1]["value"])


def test_teaching_starts_where_the_writer_is_frozen(both, tmp_path):
    """Generation 0 is that of any other run; a lesson of a mixture has as many rows and labels as any lesson."""
    frozen = runs.run(tiny(tmp_path, **TEACH | {"generator_update": "none", "generations": 1}))
    zero = lambda rows: rows[(rows["generation"] == 0) & (rows["metric"] == "accuracy")]["value"].item()  # noqa: E731
    assert zero(frozen) == zero(both[1])
    lesson = runs.load_lesson(stages.run_folder(both[0]) / "lessons" / "gen-1.parquet")
    assert len(lesson) == 24 and np.bincount(lesson["label"]).tolist() == [6] * 4
