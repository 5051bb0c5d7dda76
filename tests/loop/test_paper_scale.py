"""The code path of the `paper` scale with local folders for hub ids: true architectures, small random weights."""

import pandas as pd
import pytest
from conftest import NEWS
from row_by_row import row_by_row

from symbiosis.data.task import load_task
from symbiosis.loop import runs
from symbiosis.loop.methods import METHODS
from symbiosis.models import loading
from symbiosis.settings import make_settings, root
from symbiosis.store import stages
from symbiosis.yaml_files import read_params


@pytest.fixture(scope="module")
def ag_news_folder(tmp_path_factory):
    """CSV as AG News has it: class_index from 1, title, description."""
    folder = tmp_path_factory.mktemp("ag_news")
    (folder / "classes.txt").write_text("\n".join(NEWS))
    for part, n in (("train", 40), ("test", 6)):
        rows = [(c + 1, f"{texts[i % 2]} {part} {i}", f"Report {i * 7 + c} from {name}, edition {part}.")
                for c, (name, texts) in enumerate(NEWS.items()) for i in range(n)]  # fmt: skip
        pd.DataFrame(rows, columns=["class_index", "title", "description"]).to_csv(folder / f"{part}.csv", index=False)
    return folder


@pytest.fixture
def paper(neox_folder, qwen_folder, ag_news_folder, tmp_path):
    """params/paper.yaml with folders instead of hub ids, and less of everything."""

    def settings(method, **changes):
        given = read_params(root() / "params" / "paper.yaml") | {
            "task": str(ag_news_folder), "student": str(neox_folder), "generator": str(qwen_folder), "device": "cpu",
            "task_revision": "", "student_revision": "", "generator_revision": "", "reports_dir": str(tmp_path),
            "generations": 1, "lesson_size": 12, "train_size": 24, "pool_size": 40, "dev_size": 8, "test_size": 0,
            "max_new_tokens": 12, "hard_examples": 4, "method": method, "threads": 1,
        }  # fmt: skip
        return make_settings(**given | changes)

    return settings


@row_by_row("method", sorted(set(METHODS) - {"oracle"}))  # its truth is known of the miniature only
def test_one_generation_of_every_method_runs_on_local_folders(paper, method):
    rows = runs.run(paper(method))
    final = rows[(rows["generation"] == 1) & (rows["metric"] == "accuracy")]
    assert len(final) == 1 and final["n"].item() == 24 and 0 <= final["value"].item() <= 1
    assert rows[rows["metric"] == "train_label_loss"]["value"].notna().all()


def test_both_steps_of_feedback_run_between_generations(paper):
    settings = paper("symbiosis", generations=2)
    rows = runs.run(settings)
    state = stages.run_folder(settings) / "state" / "teach-1"
    hard = pd.read_parquet(state / "hard.parquet")
    assert len(hard) == 4 and "label" not in hard and hard["explanation"].str.len().gt(0).all()
    assert rows["generation"].max() == 2


def test_the_task_is_read_as_ag_news_and_weights_stay_fp32_under_bf16_autocast(paper):
    task = load_task(paper("real"))
    assert task.label_names == tuple(NEWS) and len(task.test) == 24
    assert "label" not in task.pool.column_names

    settings = paper("real")
    assert settings.precision == "bf16"
    student = runs.prepare(settings).student
    assert {str(p.dtype) for p in student.lm.model.parameters()} == {"torch.float32"}


def test_hub_ids_of_the_paper_scale_are_pinned():
    given = read_params(root() / "params" / "paper.yaml")
    for role in ("student", "generator"):
        assert given[f"{role}_revision"] == loading.REVISIONS[given[role]]
        assert len(given[f"{role}_revision"]) == 40
