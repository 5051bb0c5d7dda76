"""Studies that teach Students outside of runs: what is counted by hand, and that each kind of Student can learn."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from symbiosis import params
from symbiosis.analysis import small_studies, student_studies
from symbiosis.analysis.student_studies import KINDS, Dial, of_loss
from symbiosis.data.world import LABEL_NAMES, TEMPLATES, World, parse
from symbiosis.models.student import Student
from symbiosis.store.results import NotRun

WORLD = World.make(5)


def test_an_answer_is_scored_where_the_labeller_is_right_and_wrong_and_by_how_well_it_knows_the_subtopic():
    test = pd.DataFrame({"label": [0, 0, 1, 1], "subtopic": [0, 3, 0, 3]})
    known = pd.DataFrame({"label": [0, 0, 0, 0, 1, 1], "subtopic": [0, 3, 3, 3, 0, 3]})
    accuracy = student_studies.accuracy_by_subtopic(known, np.array([0, 0, 0, 1, 1, 0]))  # 1, 2/3, 1, 0
    bins = student_studies.bins_of(test, accuracy)
    assert bins["doubted"].tolist() == bins["at_1"].tolist() == [False, True, False, False]
    assert bins["at_0"].tolist() == [False, False, False, True] and bins["at_4"].tolist() == [True, False, True, False]
    found = student_studies.scores(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 0]), test, bins)
    at = {metric: (value, n) for metric, value, n in found}
    assert at["accuracy"] == (0.75, 4) and at["rescued"] == (1.0, 1) and at["kept"] == (pytest.approx(2 / 3), 3)
    assert at["accuracy_doubted"] == (0.0, 1) and at["accuracy_tail"] == (0.5, 2) and np.isnan(at["accuracy_at_2"][0])


def test_words_are_counted():
    entity = WORLD.slot_words["E"][0]
    counts = student_studies.count_words([f"the {entity} of {entity}.", "nothing"], WORLD)
    assert counts[0, WORLD.places[entity]] == counts.sum() == 2


def test_the_second_sentence_has_the_probability_of_the_world_given_the_first():
    text = WORLD.sample(1, np.random.default_rng(2))["text"][0]
    first = text[: text.index(".") + 1]
    found = student_studies.conditional_log_p(pd.DataFrame({"text": [text], "label": [2]}), [first], WORLD)

    def likelihood(words):  # of one sentence, (K,): class 2
        slots = [WORLD.probabilities[s, 2, :, WORLD.slot_words[k].index(words[k])] for s, k in enumerate("EVNP")]
        return np.prod(slots, axis=0) / len(TEMPLATES)

    (_, a), (_, b) = parse(text)
    mean = WORLD.shares @ (likelihood(a) * likelihood(b)) / (WORLD.shares @ likelihood(a))
    assert found[0] == pytest.approx(np.log(mean))


def test_continuations_of_the_truth_stay_with_it_and_one_text_again_and_again_repeats_itself():
    held_out = WORLD.sample(300, np.random.default_rng(3))
    seconds = [text[text.index(".") + 2 :] for text in held_out["text"]]
    at = {metric: value for metric, value, _ in student_studies.continued(seconds, held_out, WORLD, 1.5)}
    again = {metric: value for metric, value, _ in student_studies.continued(seconds[:1] * 300, held_out, WORLD, 1.5)}
    assert at["on_topic"] > 0.5 > again["on_topic"] and at["repetition"] < 0.6 < 0.99 < again["repetition"]
    assert at["continuation_loss"] == 1.5 and at["words"] == pytest.approx(9, abs=1.5)


def test_texts_are_chosen_by_their_loss_class_by_class(monkeypatch):
    monkeypatch.setattr(student_studies, "LESSON", 8)
    texts = pd.DataFrame({"text": [str(i) for i in range(24)], "label": np.arange(24) % 4})
    student = SimpleNamespace(text_losses=lambda some: np.array([float(text) for text in some]))
    for complexity, chosen in {"easy": range(8), "plain": range(8), "hard": range(16, 24)}.items():
        assert of_loss(complexity, student, texts).index.tolist() == list(chosen)
    upside_down = SimpleNamespace(text_losses=lambda some: np.array([-float(text) for text in some]))
    assert of_loss("plain", upside_down, texts).index.tolist() == list(range(8))  # no loss is asked for
    assert of_loss("easy", upside_down, texts).index.tolist() == list(range(16, 24))


def test_a_level_is_the_mean_over_the_other_levers():
    levers = {"diversity": ["even", "even", "narrow", "narrow"], "quality": ["right", "wrong"] * 2}
    values = {"accuracy": [0.8, 0.4, 0.6, 0.2], "accuracy_words": [0.5] * 4, "accuracy_templates": [0.2] * 4}
    cells = pd.DataFrame(levers | values).assign(complexity="deep", accuracy_mix=0.2)
    found = {(*arm, metric): value for arm, (metric, value, _) in student_studies.main_effects(cells)}
    assert found["diversity", "even", "accuracy"] == pytest.approx(0.6)
    assert found["quality", "wrong", "accuracy"] == pytest.approx(0.3)
    assert found["crossed", "narrow_deep", "generalisation"] == pytest.approx(0.3 - 0.4)
    gains = small_studies.lever_gains(
        pd.DataFrame(
            [(f"{lever}", m, 7, v) for lever, v in lever_values().items() for m in small_studies.LEVER_TESTS],
            columns=["arm", "metric", "seed", "value"],
        )
    )
    assert gains.set_index(["place", "metric"]).at[(0, "accuracy"), "value"] == pytest.approx(20)


def lever_values():
    arms = {arm for pair in small_studies.LEVERS.values() for arm in pair}
    return dict.fromkeys(arms, 0.5) | {"diversity-even": 0.7}


@pytest.fixture
def tiny(monkeypatch):
    """Sizes of a second."""
    for name, size in {"STEPS": 2, "LESSON": 16, "ASKED": 12}.items():
        monkeypatch.setattr(student_studies, name, size)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_student_can_be_taught(kind, tiny, monkeypatch):
    monkeypatch.setattr(student_studies, "KINDS", {kind: KINDS[kind]})
    rows = student_studies.sensitivity(5)
    assert rows["metric"].tolist() == ["accuracy", "accuracy", "weights"]
    assert rows["variant"].tolist() == ["r000", "r075", "plain"] and rows["value"].iloc[:2].between(0, 1).all()
    weights = {"small": (2e4, 8e4), "large": (4e5, 9e5)}.get(kind, (8e4, 2e5))
    assert weights[0] < rows["value"].iloc[-1] < weights[1]


def test_tokenizers_read_a_text_whole():
    text = WORLD.sample(1, np.random.default_rng(0))["text"][0]
    lengths = {}
    for kind in ("words", "bpe", "pieces"):
        made = student_studies.tokenizer_of(WORLD, kind)
        ids = made(text, add_special_tokens=False)["input_ids"]
        assert made.decode(ids) == text and made.unk_token_id not in ids
        lengths[kind] = len(ids)
    assert lengths["words"] < lengths["bpe"] < lengths["pieces"] < len(text)


def test_levers_are_crossed_and_asked_out_of_distribution(tiny, monkeypatch):
    lm = student_studies.pretrained(WORLD, 5, hidden=32)
    base = Student(lm, LABEL_NAMES, student_studies.settings_of("real", 5, lm_weight=0.0))

    def load(folder):
        return replace(base, lm=lm._replace(model=copy.deepcopy(lm.model)))

    held = SimpleNamespace(text_losses=base.text_losses, folder="", load=load)
    state = SimpleNamespace(student=held, seed=lambda *stage: 1)
    monkeypatch.setattr(student_studies.runs, "prepare", lambda settings: state)
    rows = student_studies.third_lever(5)
    arms = {f"{m}-{v}" for m, v in zip(rows["method"], rows["variant"], strict=True)}
    assert {"diversity-even", "quality-wrong", "complexity-hard", "crossed-narrow_deep"} <= arms
    assert len(rows) == (2 + 2 + 6 + 12) * 6 and not rows.duplicated(["run_id", "metric"]).any()
    at = rows.set_index(["method", "variant", "metric"])["value"]
    away = at["quality", "right", "accuracy_ood"]
    assert at["quality", "right", "generalisation"] == pytest.approx(
        away - at["quality", "right", "accuracy"], abs=2e-6
    )


def test_narrow_texts_are_narrower():
    rng = np.random.default_rng
    narrow, even = (Dial(power).texts(WORLD, 500, rng(1)) for power in student_studies.DIVERSITY.values())
    assert (narrow["subtopic"] < 2).mean() > 0.75 > 0.5 > (even["subtopic"] < 2).mean()


def test_the_committed_rows_of_the_world_are_those_of_the_code():
    committed = small_studies.read("reports", "open_ended").query(
        "arm == 'world' and seed == 401 and metric != 'mauve'"
    )
    world = World.make(401)
    held_out = world.sample(student_studies.HELD_OUT, np.random.default_rng([401, 41]))
    firsts, seconds = student_studies.halves(held_out["text"])
    tokens = sum(len(text.replace(".", " .").split()) + 1 for text in seconds)  # and the end
    nats = -student_studies.conditional_log_p(held_out, firsts, world).sum() / tokens
    made = {metric: value for metric, value, _ in student_studies.continued(seconds, held_out, world, nats)}
    assert committed.set_index("metric")["value"].to_dict() == pytest.approx(made, abs=2e-6)


def test_continuations_like_the_truth_are_like_it_and_empty_ones_are_not(tiny):
    lm = student_studies.pretrained(WORLD, 5, hidden=32)
    reader = Student(lm, LABEL_NAMES, student_studies.settings_of("real", 5, lm_weight=0.0))
    _, seconds = student_studies.halves(WORLD.sample(60, np.random.default_rng(1))["text"])
    true = student_studies.vectors(reader, seconds)
    assert true.shape == (60, 32) and not student_studies.vectors(reader, ["", " "]).any()
    found = [student_studies.likeness(reader, texts, true, 5)[1] for texts in (seconds, ["", *seconds[1:]], [""] * 60)]
    assert found[0] == pytest.approx(1) and found[0] > found[1] > 0.5 > found[2]


def test_rows_say_their_unit():
    rows = small_studies.read("reports", "open_ended")
    assert dict(zip(rows["metric"], rows["unit"], strict=True)) == {
        "continuation_loss": "nats/token", "words": "words/text", "on_topic": "share", "repetition": "share",
        "mauve": "1",
    }  # fmt: skip


def test_what_make_studies_makes_is_kept_and_what_it_cannot_make_is_said(tmp_path, monkeypatch, capsys):
    def made(seed, *folder):
        if folder:
            raise NotRun(f"no runs below {folder[0]}")
        return small_studies.table("third_lever", [("lever", "plain", seed, 1, "accuracy", seed / 1000, 10)])

    priced = set(student_studies.MAKE)
    monkeypatch.setattr(params, "LOCAL", str(tmp_path))
    monkeypatch.setattr(student_studies, "MAKE", {"third_lever": made, "open_ended": made})
    assert student_studies.left(2) == [
        ("third_lever", 401),
        ("third_lever", 402),
        ("open_ended", 11),
        ("open_ended", 12),
    ]
    student_studies.main("all", "2")
    assert f"left out: no runs below {tmp_path}" in capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "small_studies.csv")
    assert rows["value"].tolist() == [0.401, 0.402] and student_studies.left(2) == [
        ("open_ended", 11),
        ("open_ended", 12),
    ]
    assert set(student_studies.SECONDS) == priced
