"""Two ranks train what one process trains.

A rank that is spawned, as in use, takes some four seconds of a core to import torch. Two cases start theirs so; the
others fork them.
"""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rank_helpers
import torch
from conftest import NEWS
from datasets import Dataset
from row_by_row import row_by_row
from torch import multiprocessing

from symbiosis.loop import runs
from symbiosis.models import loading, ranks
from symbiosis.models.generator import Generator
from symbiosis.models.ranks import TrainingError
from symbiosis.models.student import LessonRows, Student
from symbiosis.settings import RunSettings, SettingsError, make_settings
from symbiosis.store import record

LABELS = list(NEWS)
TEXTS = [t for texts in NEWS.values() for t in texts]
LESSON = Dataset.from_dict({
    "text": TEXTS, "label": [0, 0, 1, 1, 2, 2, 3, 3], "weight": [1.0, 2.0, 0.5, 1.0, 1.0, 3.0, 1.0, 1.0],
    "label_probs": [[0.75, 0.25, 0.0, 0.0]] + [None] * 7,
})  # fmt: skip
# 8 rows in batches of 7: the second batch of an epoch has one row, fewer than ranks
ONE = RunSettings(
    batch_size=7, epochs=3, learning_rate=5e-3, max_length=32, generator_epochs=3, generator_learning_rate=5e-3,
    device="cpu",
)  # fmt: skip
TWO = ONE.model_copy(update={"num_processes": 2})


@pytest.fixture
def forked(monkeypatch):
    monkeypatch.setattr(multiprocessing, "spawn", rank_helpers.fork)


@pytest.fixture(scope="module")
def student(neox_folder):
    return Student(loading.load(str(neox_folder), device="cpu"), LABELS, ONE)


@pytest.fixture(scope="module")
def generator(qwen_folder):
    lm = loading.load(str(qwen_folder), device="cpu")
    model = lm.model
    model.config.tie_word_embeddings = True  # one matrix, as in Qwen2-0.5B: the sharding must not tear it apart
    model.tie_weights()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return Generator(lm, LABELS, ONE)


def with_(learner, settings):
    """A copy of a Student or Generator, weights and all, with other settings."""
    return replace(learner, lm=copy.deepcopy(learner.lm), settings=settings)


def teach(student):
    return student.learn(LESSON, seed=3)


def tune(generator):
    return generator.fine_tune(["Say it."] * 8, TEXTS, seed=3, weights=np.linspace(0.1, 2.0, 8))


def prefer(generator):
    return generator.prefer(["Say it."] * 7, TEXTS[:7], TEXTS[1:], seed=3)


def apart(one, other) -> float:
    """Euclidean distance of two learners' weights."""
    weights = zip(one.lm.model.parameters(), other.lm.model.parameters(), strict=True)
    return sum(((p - q) ** 2).sum().item() for p, q in weights) ** 0.5


CASES = {
    "generator, fsdp": ("generator", tune, {"sharding": "fsdp"}),
    "preferences": ("generator", prefer, {}),
    "student, in parts": ("student", teach, {"gradient_accumulation_steps": 2}),
}


@row_by_row("case", CASES)
def test_two_ranks_have_the_losses_and_weights_of_one_process(case, request, forked):
    who, train, changes = CASES[case]
    begun = request.getfixturevalue(who)
    one, other = with_(begun, ONE), with_(begun, TWO.model_copy(update=changes))
    alone, shared = train(one), train(other)
    assert [list(step) for step in alone] == [list(step) for step in shared]
    difference = max(abs(a[name] - b[name]) for a, b in zip(alone, shared, strict=True) for name in a)
    drift = apart(one, other) / apart(one, begun)
    print(f"{case}: losses differ by {difference:.1e} at most, weights by {drift:.1e} of the way training went")
    assert difference < 1e-5  # the same sums in another order: fp32 has 7 digits, and the losses are about 6
    assert drift < 0.02  # AdamW's first steps have one length: where a gradient is all but 0, only its rounding is left


def test_a_run_in_two_ranks_has_the_rows_of_one_process(neox_folder, tmp_path):
    given = {
        "method": "real", "generations": 1, "lesson_size": 40, "train_size": 40, "pool_size": 40, "dev_size": 8,
        "test_size": 100, "student": str(neox_folder), "device": "cpu", "epochs": 3, "learning_rate": 5e-3,
    }  # fmt: skip
    settings = [RunSettings(**given, reports_dir=str(tmp_path / str(n)), num_processes=n) for n in (1, 2)]
    one, two = map(runs.run, settings)
    same = ["generation", "metric", "unit", "n"]
    assert one[same].equals(two[same]) and set(one["run_id"]).isdisjoint(two["run_id"])
    assert one["value"].to_numpy() == pytest.approx(two["value"].to_numpy(), abs=1e-4)
    assert record.read_record(settings[1])["settings"]["num_processes"] == 2
    lm_loss = one[one["metric"] == "lm_loss"].set_index("generation")["value"]
    assert lm_loss[1] < lm_loss[0] - 0.5  # and something was learned


def test_the_plain_average_of_two_slices_would_have_been_another_loss(student):
    lesson, batch = LessonRows(student, LESSON), np.arange(7)
    of = lambda rows: lesson.batch_losses(rows, rows)["loss"].item()  # noqa: E731
    assert abs(of(batch) - (of(batch[::2]) + of(batch[1::2])) / 2) > 1e-3


def test_under_fsdp_a_rank_holds_half(neox_folder, forked):
    model, _ = loading.load(str(neox_folder), device="cpu")
    held = ranks.launch(rank_helpers.share_held, model, TWO, (model,), {"sharding": "fsdp"})
    assert 0.48 < held[0]["share"] < 0.52


# --- what goes wrong -----------------------------------------------------------------------------------------------
def children(parent: int) -> list[int]:
    """Processes started by `parent`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # ended while we looked
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def words(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


def ranks_of(starter: int, folder: Path, wait_s: float = 60) -> list[int]:
    """The two ranks that `starter` started, in their order, once they have met in a folder below `folder`."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if list(folder.glob("symbiosis-ranks-*/rendezvous")):
            time.sleep(2)  # past the greeting: now they train
            begun = [p for p in children(starter) if b"spawn_main" in words(p) or words(p) == words(starter)]
            assert len(begun) == 2
            return sorted(begun)
        time.sleep(0.2)
    raise AssertionError("no ranks were started")


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the ranks through Linux's /proc")
LONG = TWO.model_copy(update={"epochs": 100_000})


@linux
def test_a_rank_that_dies_stops_the_training_with_a_sentence_and_changes_nothing(
    student, tmp_path, monkeypatch, forked
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    learner = with_(student, LONG)
    before = [p.clone() for p in learner.lm.model.parameters()]
    killer = threading.Thread(target=lambda: os.kill(ranks_of(os.getpid(), tmp_path)[1], signal.SIGKILL))
    killer.start()
    with pytest.raises(TrainingError, match=r"rank 1 of the 2 ended early \(killed by SIGKILL\); nothing"):
        teach(learner)
    killer.join()
    assert all(torch.equal(p, q) for p, q in zip(before, learner.lm.model.parameters(), strict=True))
    assert list(tmp_path.iterdir()) == []  # neither weights nor lesson are left behind


STARTER = """
import sys
from datasets import Dataset
from symbiosis.models import loading
from symbiosis.models.student import Student
from symbiosis.settings import RunSettings

lesson = Dataset.from_dict({"text": ["Shares fell."] * 8, "label": [0, 1] * 4, "weight": [1.0] * 8})
settings = RunSettings(device="cpu", num_processes=2, epochs=100_000, batch_size=4)
Student(loading.load(sys.argv[1], device="cpu"), ["World", "Sports"], settings).learn(lesson, seed=0)
"""


@linux
def test_the_ranks_end_with_a_notebook_that_was_killed(neox_folder, tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", STARTER, str(neox_folder)], env=environment) as starter:
        left = ranks_of(starter.pid, tmp_path)
        starter.kill()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(Path(f"/proc/{rank}").exists() for rank in left):
        time.sleep(0.2)
    assert not [rank for rank in left if Path(f"/proc/{rank}").exists()]


def test_an_infinite_loss_in_the_ranks_is_told_as_in_one_process(student, forked):
    learner = with_(student, TWO)
    with torch.no_grad():
        learner.lm.model.get_output_embeddings().weight.fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"^Student: the loss became nan at step 1 of 6; .* lower learning_rate"):
        teach(learner)


def test_more_ranks_than_gpus_is_refused_before_anything_starts(monkeypatch):
    model = type("OnGpu", (), {"device": torch.device("cuda")})()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(TrainingError, match="num_processes: 2 ranks need a GPU each, 1 visible; lower it"):
        ranks.launch(Student.learn, model, TWO, (), {"seed": 0})


@row_by_row("given", [{"num_processes": 1}, {"num_processes": 2, "generator_lora_rank": 4}])
def test_sharding_needs_ranks_and_whole_weights(given):
    with pytest.raises(SettingsError, match=r"sharding: 'fsdp' .* set num_processes to 2 or more and"):
        make_settings(sharding="fsdp", **given)


def test_one_process_is_what_it_was():
    assert not ranks.is_distributed() and ranks.size() == 1 and not ranks.needs_launch(ONE) and ranks.needs_launch(TWO)
    count, losses = torch.tensor(3.0), lambda batch: {}
    assert ranks.all_reduce_sum(count) is count and ranks.wrap_ddp_or_fsdp(None, losses, "none") is losses
    assert ONE.fingerprint == RunSettings(**ONE.model_dump(exclude={"num_processes", "sharding"})).fingerprint
    assert TWO.fingerprint != ONE.fingerprint  # sums in another order are another run


def test_adapters_begin_the_same_whatever_was_drawn_before(generator):
    states, settings = [], ONE.model_copy(update={"generator_lora_rank": 2, "generator_epochs": 1})
    for seed in (0, 1):
        torch.manual_seed(seed)
        learner = with_(generator, settings)
        tune(learner)
        states.append(torch.cat([p.flatten() for p in learner.lm.model.parameters()]))
        assert torch.initial_seed() == seed  # and the state outside is as it was
    assert torch.equal(*states)
