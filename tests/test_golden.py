"""Tiny runs keep their numbers to the last digit, and so do the models pre-trained here.

What a change of the code must not move stands in tests/golden. A change that is meant to move numbers raises the
VERSION of the recipe it touches and writes the files anew: `python tests/test_golden.py`.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from row_by_row import row_by_row

from symbiosis import interaction
from symbiosis.loop import runs
from symbiosis.models import loading
from symbiosis.pretrain.initial import initial_model_folder
from symbiosis.settings import InteractionSettings, RunSettings

GOLDEN = Path(__file__).parent / "golden"
TINY = {
    "generations": 2, "lesson_size": 24, "train_size": 48, "pool_size": 60, "dev_size": 16, "test_size": 40,
    "student_steps": 20, "generator_steps": 40, "hard_examples": 6, "scale": "tiny", "device": "cpu",
}  # fmt: skip
TINY_INTERACTION = {
    "generations": 2, "rows": 24, "written": 12, "train_size": 30, "test_size": 12, "prompts": 4, "answers": 2,
    "student_steps": 20, "steps": 4, "batch_size": 8, "scale": "tiny", "device": "cpu",
}  # fmt: skip
FROZEN = {"generator_update": "none", "candidates": 3, "first_lesson_sources": "random"}
RUNS = {
    "published_loop": {},
    "best_loop": FROZEN | {"teaching_share": 0.5, "pool_share": 0.25, "soft_labels": True, "feedback": "teacher_kl"},
    "other_student": FROZEN | {"feedback_student": "foreign", "max_similarity": 0.5, "skip_hardest_share": 0.02},
    "influence": {"feedback": "influence", "generator_update": "influence", "candidates": 2, "dev_rows": 4},
    "dpo": {"feedback": "gradient_norm", "generator_update": "dpo", "candidates": 2, "attributes": True},
    "pool_lm": {"feedback": "entropy", "generator_update": "pool_lm", "generation_engine": "refill"},
    "recursion": {
        "method": "recursive", "recursive_start": "warm", "mixing": "accumulate", "real_share": 0.25,
        "weak_accuracy": 0.4, "top_p": 0.9,
    },
    "subsampled": {"method": "recursive", "mixing": "accumulate_subsample",
    "real_share": 0.25, "real_rows_from": "fixed"},
    "dialled_writer": {"method": "oracle", "subtopic_power": 2.2, "label_noise": 0.2, "probe_hidden_states": True},
    "labels_only": {"method": "pseudo_label", "precision": "bf16", "pool_skew": "rare_tail"},
    "one_lesson": {"method": "static", "feedback": "margin", "real_share": 0.25},
    "real": {"method": "real"},
    "two_models": {"method": "interaction"},
    "three_models": {
    "method": "interaction", "entities": 3,
    "writer_weights": "0,1,1", "symbiotic": 2, "mixing": "accumulate_subsample",
        "encoder": "miniature",
    },
}  # fmt: skip


def processor() -> str:
    """What decides the last bits of a sum: the vendor whose libraries run, and the widest instructions they take."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    vendor = next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "unknown")
    return f"{vendor} {torch.backends.cpu.get_cpu_capability()}"


def rows_of(name: str, reports_dir: Path) -> str:
    """The run's rows as CSV, without the columns that only name the run."""
    changes = {"reports_dir": str(reports_dir), "variant": name} | RUNS[name]
    if changes.get("method") == "interaction":
        rows = interaction.run(InteractionSettings(**TINY_INTERACTION | changes))
    else:
        rows = runs.run(RunSettings(**TINY | changes))
    return rows[["generation", "metric", "value", "unit", "n"]].to_csv(index=False)


def weights_of(folder: str) -> str:
    """sha256 over all weights in the order of their names."""
    model, _ = loading.load(folder, device="cpu")
    content = hashlib.sha256()
    for _, weight in sorted(model.state_dict().items()):
        content.update(weight.numpy().tobytes())
    return content.hexdigest()


def models_pretrained_here() -> dict[str, str]:
    """The weights of every kind of model that is pre-trained from nothing but the code."""
    loop, interacting = RunSettings(**TINY), InteractionSettings(**TINY_INTERACTION)
    folders = {role: initial_model_folder(role, loop) for role in ("student", "generator")}
    folders["entity"] = initial_model_folder("interaction", interacting)
    return {name: weights_of(folder) for name, folder in folders.items()}


@pytest.fixture(autouse=True)
def same_processor():
    made_on = json.loads((GOLDEN / "models.json").read_text())["processor"]
    if processor() != made_on:
        pytest.skip(f"the last digits were written on {made_on}, this is {processor()}")


@row_by_row("name", RUNS)
def test_a_tiny_run_keeps_its_rows_to_the_byte(name, tmp_path):
    assert rows_of(name, tmp_path) == (GOLDEN / f"{name}.csv").read_text()


def test_every_golden_file_has_its_run():
    assert {path.stem for path in GOLDEN.glob("*.csv")} == set(RUNS)


def test_models_pretrained_here_keep_their_weights():
    assert models_pretrained_here() == json.loads((GOLDEN / "models.json").read_text())["weights"]


if __name__ == "__main__":
    import tempfile

    for name in RUNS:
        with tempfile.TemporaryDirectory() as reports:
            (GOLDEN / f"{name}.csv").write_text(rows_of(name, Path(reports)))
    written = {"processor": processor(), "weights": models_pretrained_here()}
    (GOLDEN / "models.json").write_text(json.dumps(written, indent=1) + "\n")
