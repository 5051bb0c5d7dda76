import json
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from made_up import LABELS, TEXTS, Reader, ThreeTexts, rows, state_of, word_of
from row_by_row import row_by_row

from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.loop import methods
from symbiosis.loop.methods import METHODS, next_lesson
from symbiosis.loop.state import cycle
from symbiosis.measures.lessons import whole_lesson
from symbiosis.models.generation import GenerationError

HARD = rows("hard", 4).remove_columns("label")
TRUTH = SimpleNamespace(posterior=lambda texts: np.eye(3)[[word_of(text) for text in texts]].reshape(-1, 3))


def kinds(lesson) -> Counter:
    return Counter(lesson["prompt_kind"])


@pytest.fixture
def writes(monkeypatch):
    """What the Student's samples are: drafts[i] at the i-th call, taken in turn."""
    drafts: list[list[str]] = []

    def generate(lm, prompts, sampling, *, seed, samples):
        some = drafts.pop(0)
        return [some[i % len(some)] for i in range(len(prompts))]

    monkeypatch.setattr(methods, "generate", generate)
    return drafts


# --- each method's lesson ------------------------------------------------------------------------------------------
def test_real_takes_the_next_labelled_rows_and_starts_over():
    state = state_of(method="real", lesson_size=5)
    train = state.task.train
    lessons = [METHODS["real"](state, generation, 5) for generation in (1, 2, 3)]
    wanted = [range(0, 5), range(5, 10), [10, 11, 0, 1, 2]]
    for lesson, which in zip(lessons, wanted, strict=True):
        for column in ("text", "label", "source_id"):
            assert lesson[column][:] == [train[int(i)][column] for i in which]
    assert set(lessons[2]["origin"]) == {"real"} and set(lessons[2]["generation"]) == {3}


@row_by_row("changes", [{}, {"mixing": "accumulate"}, {"real_share": 0.5, "dev_rows": 3}])
def test_static_teaches_what_it_wrote_once(changes):
    state = state_of(method="static", **changes)
    state.lesson = state.first_lesson = next_lesson(state, 1)
    asked = len(state.generator.seeds)
    second = next_lesson(state, 2)
    new = second.select(range(12, 24)) if changes.get("mixing") else second
    texts = [[row["text"] for row in lesson if row["prompt_kind"] == "write"] for lesson in (state.lesson, new)]
    assert texts[0] == texts[1] and texts[0] and len(state.generator.seeds) == asked == 1


def test_what_static_writes_does_not_depend_on_the_pool_and_lessons_may_be_subsets_of_it():
    small = state_of(method="static")
    object.__setattr__(small.task, "pool", small.task.pool.select([3]))
    assert next_lesson(small, 1)[:] == next_lesson(state_of(method="static"), 1)[:]

    state = state_of(method="static", static_size=20)
    lessons = [next_lesson(state, generation) for generation in (1, 2)]
    assert len(state.generator.seeds) == 1 and len(state.written) == 20 and state.counts["asked"] == 20
    drawn = [state.rng(generation, "static").permutation(20)[:12] for generation in (1, 2)]
    assert [lesson["label"][:] for lesson in lessons] == [[i % 3 for i in some] for some in drawn]
    assert not np.array_equal(*drawn)


def test_pseudo_labels_may_stand_beside_writing_and_classes_may_weigh_the_same():
    state = state_of(method="pseudo_label", written_share=0.5, label_keep=0.5)
    lesson = next_lesson(state, 1)
    assert kinds(lesson) == {"label": 6, "write": 6} and state.counts["labelled"] == 12
    alone = next_lesson(state_of(method="static", lesson_size=6), 1)  # what is written is what others write
    assert lesson["text"][6:] == alone["text"][:] and lesson["label"][6:] == alone["label"][:]
    assert kinds(next_lesson(state_of(method="pseudo_label", written_share=1.0), 1)) == {"write": 12}

    lesson = next_lesson(state_of(method="pseudo_label", class_weights=True), 1)
    labels, weights = np.array(lesson["label"]), np.array(lesson["weight"])
    counts = Counter(labels)
    assert len(set(counts.values())) > 1  # or the weights would be 1 anyway
    assert [weights[labels == label].sum() for label in counts] == pytest.approx([12 / len(counts)] * len(counts))
    plain = next_lesson(state_of(method="pseudo_label"), 1)
    assert plain["text"][:] == lesson["text"][:] and set(plain["weight"]) == {1.0}


def test_recursion_keeps_repeats_and_draws_empty_texts_again(writes):
    state = state_of(method="recursive", max_redraws=2)
    writes += [["meow", "", "meow"], ["", "woof"], ["tweet"]]  # four of twelve are empty, then two of these four
    lesson = next_lesson(state, 1)
    assert Counter(lesson["text"]) == {"meow": 8, "woof": 2, "tweet": 2} and not writes
    assert lesson["label"][:] == [0, 1, 2] * 4 and set(lesson["origin"]) == {"student"}
    assert state.counts["redrawn"] == state.counts["empty"] == 6 and state.counts["duplicate"] > 0
    writes += [["meow", ""]] * 3
    with pytest.raises(GenerationError, match="still empty after max_redraws=2"):
        next_lesson(state, 2)


def test_pseudo_labels_are_the_generators_on_random_pool_rows():
    state = state_of(method="pseudo_label", blind=("dog",))
    lesson = next_lesson(state, 1)
    assert len(set(lesson["text"])) == 10 and len(lesson) == 12  # the whole pool before any row comes twice
    assert set(lesson["source_id"]) == set(state.task.pool["source_id"]) and set(lesson["origin"]) == {"real"}
    read = [2 if word_of(text) == 1 else word_of(text) for text in lesson["text"]]
    assert lesson["label"][:] == read
    assert next_lesson(state, 2)["text"][:] != lesson["text"][:]


@row_by_row(("hard", "asked", "taught"), [(24, 24, 12), (8, 8, 4)])
def test_only_the_surest_labels_class_by_class_are_taught(hard, asked, taught, monkeypatch):
    """Doubled belief in later texts: the last half of each class is kept; what is too few comes again, in turn."""
    rising = lambda self, texts: 0.1 + np.eye(3)[list(map(word_of, texts))] * np.array([[len(t)] for t in texts]) / 100  # noqa: E731
    monkeypatch.setattr(ThreeTexts, "label_probs", rising)
    state = state_of(teaching_share=0.0, pool_share=1.0, label_keep=0.5)
    state.hard = rows("hard", hard).remove_columns("label")
    lesson = next_lesson(state, 2)
    assert state.counts["labelled"] == asked and len(lesson) == 12
    kept = [int(source.split(":")[1]) for source in lesson["source_id"]]
    assert kept[:taught] == sorted(set(kept)) and kept == [kept[i % taught] for i in range(12)]
    by_class = {label: [i for i in range(hard) if i % 3 == label] for label in range(3)}
    for members in by_class.values():  # of an odd number the middle one may go either way
        mine = [i for i in members if i in kept]
        assert mine == members[len(members) - len(mine) :] and abs(2 * len(mine) - len(members)) <= 1


def test_pseudo_labels_may_be_the_surest_of_more_texts():
    state = state_of(method="pseudo_label", label_keep=0.6, lesson_size=6)
    assert len(next_lesson(state, 1)) == 6 and state.counts["labelled"] == 10


def test_symbiosis_shares_its_lesson_between_hard_texts_explanations_and_written_ones():
    state = state_of(teaching_share=0.5, pool_share=0.25, candidates=2)
    assert kinds(next_lesson(state, 1)) == {"write": 12}  # there is no feedback yet
    assert state.counts["filtered"] == state.counts["kept"] == state.counts["agreed"] == 12
    state.hard = HARD
    lesson = next_lesson(state, 2)
    assert kinds(lesson) == {"label": 3, "explain": 6, "write": 3}
    by_kind = {kind: [row for row in lesson if row["prompt_kind"] == kind] for kind in kinds(lesson)}
    assert [row["text"] for row in by_kind["label"]] == HARD["text"][:3]
    assert [row["source_id"] for row in by_kind["explain"]] == [f"hard:{i % 4}" for i in range(6)]
    assert [row["text"] for row in by_kind["explain"]] == [TEXTS[i % 4 % 3] for i in range(6)]
    assert all(row["label"] == word_of(row["text"]) for row in lesson)
    assert {row["source_id"] for row in by_kind["write"]} == {""}


def test_the_texts_most_like_the_hard_ones_may_stand_in_place_of_explanations():
    state = state_of(teaching_share=0.5, pool_share=0.25, teaching_rows="retrieved", blind=("bird",))
    pool = state.task.pool
    state.hard = pool.select([4, 7, 2])  # of a dog, a dog and a bird
    lesson = next_lesson(state, 2)
    assert kinds(lesson) == {"label": 3, "retrieve": 6, "write": 3} and len(set(lesson["source_id"][:9])) == 9
    found = [int(source.split(":")[1]) for source in lesson["source_id"][3:9]]
    assert found[:3] == [1, 0, 5] and lesson["text"][3:9] == [pool[i]["text"] for i in found]  # a dog, any, a bird
    assert lesson["label"][3:9] == [0 if i % 3 == 2 else i % 3 for i in found]  # as the Generator reads them
    assert set(lesson["origin"][:9]) == {"real"} and state.counts["labelled"] == 9
    assert state.counts["asked"] == 3  # nothing is explained


def test_real_rows_may_be_edited_anew_or_the_last_edits_again():
    class Editor(Reader):
        def edited(self, texts, labels, *, seed):
            return [f"{text}!" for text in texts], 2 * len(texts)

    for mixing, second in (("edit", [*range(8, 12), *range(4)]), ("edit_again", range(8))):
        state = state_of(Editor(), method="recursive", mixing=mixing, lesson_size=8)
        train = state.task.train
        for generation, (own, marks) in enumerate(((range(8), "!"), (second, "!" if mixing == "edit" else "!!")), 1):
            state.lesson = next_lesson(state, generation)
            assert state.lesson["text"][:] == [f"{train[i]['text']}{marks}" for i in own]
            assert state.lesson["label"][:] == [train[i]["label"] for i in own]
            assert state.lesson["source_id"][:] == [f"train:{i}" for i in own]
        assert (
            state.counts["asked"] == 16 and state.counts["edited"] == 32 and kinds(state.lesson) == {"student_edit": 8}
        )
    state = state_of(Editor(), method="recursive", mixing="edit", real_rows_from="fixed", lesson_size=8)
    assert next_lesson(state, 1)["text"][:] == next_lesson(state, 2)["text"][:]


def test_the_first_lesson_may_explain_random_texts_or_what_the_untaught_student_finds_hard():
    state = state_of(first_lesson_sources="random", teaching_share=1.0)
    lesson, sources = next_lesson(state, 1), methods.random_sources(state, 1)
    assert kinds(lesson) == {"explain": 12} and set(lesson["source_id"]) == set(sources["source_id"])
    assert len(sources) == 4 and set(sources["source_id"]) <= set(state.task.pool["source_id"])
    assert len(methods.random_sources(state_of(hard_examples=100), 1)) == 5  # as many as step C would call hard
    state.hard = HARD
    assert set(next_lesson(state, 2)["source_id"]) == set(HARD["source_id"])

    state = state_of(first_lesson_sources="feedback", teaching_share=0.0, pool_share=0.25)
    lesson = next_lesson(state, 1)
    longest = sorted(state.task.pool["text"], key=len)[::-1]
    assert [row["text"] for row in lesson if row["prompt_kind"] == "label"] == longest[:3]


def test_soft_labels_are_what_the_generator_believes():
    state = state_of(method="pseudo_label", soft_labels=True)
    lesson = next_lesson(state, 1)
    assert np.array(lesson["label_probs"]) == pytest.approx(state.generator.label_probs(lesson["text"]))
    assert set(map(json.dumps, next_lesson(state_of(method="pseudo_label"), 1)["label_probs"])) == {"null"}


def test_the_world_writes_with_the_diversity_and_the_quality_asked_for():
    world = World.make(0)

    def measures(**dial):
        state = state_of(method="oracle", world=world, lesson_size=300, **dial)
        object.__setattr__(state.task, "label_names", LABEL_NAMES)
        lesson = next_lesson(state, 1)
        assert sorted(Counter(lesson["label"]).values()) == [75] * 4 or "label_noise" in dial
        return whole_lesson(lesson["text"][:], np.array(lesson["label"]), world)

    narrow, wide, noisy = measures(subtopic_power=60.0), measures(subtopic_power=0.0), measures(label_noise=0.5)
    assert narrow["tail_coverage"] < 0.1 and wide["tail_coverage"] == 1
    assert wide["tail_mass"] == pytest.approx(4 / 6, abs=0.12) and wide["label_purity"] > 0.95
    assert noisy["label_purity"] == pytest.approx(0.5, abs=0.1)


@row_by_row("method", METHODS)
def test_every_method_gives_as_many_rows_as_asked_for(method, writes):
    writes += [["meow"]]
    state = state_of(method=method, world=World.make(0), real_share=0.25, dev_rows=1)
    if method == "oracle":
        object.__setattr__(state.task, "label_names", LABEL_NAMES)
    assert len(next_lesson(state, 1)) == 12


# --- what is mixed in ----------------------------------------------------------------------------------------------
def test_real_and_dev_rows_take_the_place_of_the_methods():
    for fixed in ("fresh", "fixed"):
        state = state_of(method="pseudo_label", real_share=0.5, real_rows_from=fixed, dev_rows=4)
        lessons = [next_lesson(state, generation) for generation in (1, 2)]
        assert [kinds(lesson) for lesson in lessons] == [{"label": 4, "real": 4, "dev": 4}] * 2
        real = [[row["source_id"] for row in lesson if row["prompt_kind"] == "real"] for lesson in lessons]
        start = 0 if fixed == "fixed" else 4
        assert real == [[f"train:{i}" for i in range(4)], [f"train:{start + i}" for i in range(4)]]
        dev = {row["text"]: row["label"] for row in state.task.dev}
        drawn = [row for lesson in lessons for row in lesson if row["prompt_kind"] == "dev"]
        assert all(dev[row["text"]] == row["label"] and row["origin"] == "real" for row in drawn)
    assert kinds(next_lesson(state_of(method="pseudo_label", real_share=1.0), 1)) == {"real": 12}


def dev_of(lesson, kind: str) -> list[int]:
    return [int(row["source_id"].split(":")[1]) for row in lesson if row["prompt_kind"] == kind]


def test_dev_rows_may_be_explained_under_their_own_label_taught_too_or_take_a_share():
    state = state_of(dev_rows=5, dev_rows_as="prompts", candidates=2, blind=("dog",))
    lesson = next_lesson(state, 1)
    assert kinds(lesson) == {"explain_dev": 12} and set(lesson["origin"]) == {"generator"}
    order = state.rng(1, "dev").permutation(5)
    assert dev_of(lesson, "explain_dev") == [order[i % 5] for i in range(12)]
    dev = state.task.dev
    assert lesson["label"][:] == [dev[i]["label"] for i in dev_of(lesson, "explain_dev")]  # a dog's, too: not read
    assert lesson["text"][:] == [TEXTS[label] for label in lesson["label"]]
    assert state.counts["asked"] == state.counts["read"] == 24  # the drafts are read to choose; the rows are not

    state = state_of(dev_rows=2, dev_rows_as="both", dev_rows_in_turn=True, real_share=0.2)
    lessons = [next_lesson(state, generation) for generation in (1, 2, 3)]
    assert [kinds(lesson) for lesson in lessons] == [{"explain_dev": 8, "real": 2, "dev": 2}] * 3
    order = state.rng(0, "dev").permutation(5).tolist()
    taught = [i for lesson in lessons for i in dev_of(lesson, "dev")]
    assert taught == order + order[:1]  # each once before any comes again
    assert dev_of(lessons[0], "explain_dev")[:5] == order[2:] + order[:2]
    assert sorted(dev_of(lessons[0], "explain_dev")[:5]) == [0, 1, 2, 3, 4]

    for method in ("static", "pseudo_label", "symbiosis"):
        state = state_of(method=method, dev_rows=4, dev_rows_as="both", dev_prompts_share=0.5)
        own = {"pseudo_label": "label"}.get(method, "write")
        state.lesson = state.first_lesson = next_lesson(state, 1)
        for lesson in (state.lesson, next_lesson(state, 2)):
            assert kinds(lesson) == {own: 4, "explain_dev": 4, "dev": 4}


def test_earlier_lessons_are_taught_again_or_drawn_from():
    mixings = ("accumulate", "accumulate_subsample")
    grows, drawn = (state_of(method="real", mixing=mixing, lesson_size=4) for mixing in mixings)
    for state in (grows, drawn):
        lessons = [next_lesson(state, generation) for generation in (1, 2, 3)]
        assert state.accumulated["source_id"][:] == [f"train:{i}" for i in range(12)]
        assert len(lessons[2]) == (12 if state is grows else 4)
    assert lessons[2]["source_id"][:] != [f"train:{i}" for i in range(8, 12)]
    replaced = state_of(method="real", lesson_size=4)
    next_lesson(replaced, 1)
    assert replaced.accumulated is None


@row_by_row("accuracy, right", [(1.0, True), (1e-9, False)])
def test_only_rejected_rows_get_the_weak_labellers_label(accuracy, right):
    state = state_of(method="real", weak_accuracy=accuracy, blind=("dog",), world=TRUTH)
    lesson = next_lesson(state, 1)
    is_true = [row["label"] == word_of(row["text"]) for row in lesson]
    is_dog = [word_of(row["text"]) == 1 for row in lesson]  # the reader sees a bird there, so it rejects the label
    assert state.counts["rejected"] == sum(is_dog) == 4
    assert [true for true, dog in zip(is_true, is_dog, strict=True) if dog] == [right] * 4
    assert all(true for true, dog in zip(is_true, is_dog, strict=True) if not dog)
    assert lesson.features == next_lesson(state_of(method="real"), 1).features


def test_without_a_generator_the_student_reads():
    state = state_of(Reader(log_p=np.log([[0.1, 0.1, 0.8]] * 12)), method="real", weak_accuracy=1.0, world=TRUTH)
    state.generator = None
    next_lesson(state, 1)
    assert state.counts["rejected"] == 8  # all but the birds


def test_sources_come_in_turn():
    assert cycle(HARD, 6)["source_id"][:] == ["hard:0", "hard:1", "hard:2", "hard:3", "hard:0", "hard:1"]
    assert len(cycle(HARD, 0)) == 0


# --- steps C and D -------------------------------------------------------------------------------------------------
def test_another_student_names_other_texts_and_this_one_stays():
    state = state_of(Reader(sign=1.0))
    own, others = (methods.mine_hard_texts(state, 1, other) for other in (None, Reader(sign=-1.0)))
    assert not set(own["text"]) & set(others["text"]) and state.student.sign == 1.0


def test_the_other_student_has_had_as_many_lessons_of_other_random_states():
    state, other = state_of(), Reader()
    assert methods.teach_another(state, other, 2) is other
    assert [kinds(lesson) for lesson, _ in other.lessons] == [{"write": 12}] * 2
    own = {state.seed(g, stage) for g in (1, 2) for stage in ("write", "student")}
    assert len({seed for _, seed in other.lessons} - own) == 2 and not set(state.generator.seeds) & own
    assert state.lesson is None and not state.student.lessons
    assert state.counts["student_rows"] == state.counts["asked"] == 24  # which is paid for, too


def test_sft_learns_the_explanations_and_pool_lm_the_hard_texts():
    state = state_of(generator_update="sft")
    state.hard = HARD
    hard, history = methods.update_generator(state, 1)
    assert hard["explanation"][:] == [TEXTS[i % 3] for i in range(4)] and history == [{"loss": 1.0}]
    asked, answers, _ = state.generator.learnt[0]
    assert answers == hard["explanation"][:] and all(t in a for t, a in zip(HARD["text"], asked, strict=True))
    state = state_of(generator_update="pool_lm", blind=("dog",))
    state.hard = HARD
    hard, _ = methods.update_generator(state, 1)
    asked, answers, _ = state.generator.learnt[0]
    assert answers == HARD["text"][:] and "explanation" not in hard.column_names and state.counts["labelled"] == 4
    assert [label for ask in asked for label in LABELS if label in ask] == ["cat", "bird", "bird", "cat"]


@row_by_row("update", ["influence", "dpo"])
def test_what_helps_the_student_most_is_learnt_most(update, monkeypatch):
    seen = []

    class Scores:
        def __init__(self, student, lesson, dev, seed):
            seen.append((student, lesson, seed))

        def of(self, candidates):
            seen.append(candidates["label"][:])
            return np.arange(8.0)  # of each text's two drafts the first helps more

    monkeypatch.setattr(methods, "Influence", Scores)
    state = state_of(generator_update=update, candidates=2)
    monkeypatch.setattr(ThreeTexts, "answers", lambda self, prompts, **_: [
        f"{TEXTS[word_of(prompt)]} {draft}" for prompt in prompts for draft in ("first", "second")
    ])  # fmt: skip
    state.hard, state.lesson = HARD, rows("taught", 3)
    hard, _ = methods.update_generator(state, 1)
    assert hard is HARD and seen[0] == (state.student, state.lesson, state.seed(1, "influence"))
    assert seen[1] == [0, 0, 1, 1, 2, 2, 0, 0]  # the drafts, with the Generator's labels
    asked, better, more = state.generator.learnt[0]
    if update == "dpo":
        assert [text.split()[-1] for text in better + more] == ["first"] * 4 + ["second"] * 4 and len(asked) == 4
    else:
        assert len(asked) == len(better) == 8 and (np.diff(more) < 0).all() and np.mean(more) == pytest.approx(1)
