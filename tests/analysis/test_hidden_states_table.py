"""Students side by side: the gap of the tail by hand, and the table of runs that probe."""

import numpy as np
import pandas as pd
import pytest

from symbiosis.analysis.hidden_states import by_student, tail_gap
from symbiosis.data.task import load_task
from symbiosis.loop import runs
from symbiosis.models import loading
from symbiosis.models.hidden_states import probe
from symbiosis.settings import RunSettings
from symbiosis.store import stages
from symbiosis.store.results import with_arm

TINY = {
    "generations": 2, "lesson_size": 24, "train_size": 48, "pool_size": 60, "dev_size": 16, "test_size": 40,
    "student_steps": 20, "scale": "tiny", "method": "recursive", "max_new_tokens": 8,
}  # fmt: skip


def test_tail_gap_sees_only_what_the_tail_loses_more_than_the_head():
    assert tail_gap(0.25, 0.2, 0.5, 0.4) == pytest.approx(0)  # both halved
    assert tail_gap(8, 8, 20, 10) == pytest.approx(np.log(0.4 / 0.8))
    assert np.isnan(tail_gap(np.nan, 8, 20, 10))
    by_seed = [pd.Series(values, index=[3, 4]) for values in ([8, 5], [8, 10], [20, 5], [10, 10])]
    assert tail_gap(*by_seed).to_dict() == pytest.approx({3: np.log(0.5), 4: 0})
    unprobed = pd.DataFrame({"arm": ["real"], "seed": 1, "generation": 0, "metric": "accuracy", "value": 0.5, "n": 9})
    assert by_student(unprobed).empty


def test_a_run_that_probes_leaves_the_numbers_of_every_generation(tmp_path):
    arms = {"real": {"method": "real"}, "recursive-warm": {"variant": "warm", "recursive_start": "warm"}}
    settings = RunSettings(**TINY, reports_dir=str(tmp_path), study="hidden_states", probe_hidden_states=True)
    rows = pd.concat([with_arm(runs.run(settings.model_copy(update=arm))) for arm in arms.values()])
    table = by_student(rows)
    generations = table.groupby("arm")["generation"].apply(list).to_dict()
    assert generations == {"random": [0], "base": [0], "real": [1, 2], "recursive-warm": [0, 1, 2]}
    assert table["n"].nunique() == 1 and table["effective_rank_tail"].between(1, 64).all()
    random, base = (table.set_index("arm").loc[name, "density_head"] for name in ("random", "base"))
    assert random != pytest.approx(base, rel=1e-3)

    task = load_task(settings)
    last = loading.load(str(stages.run_folder(settings.model_copy(update=arms["real"])) / "state/student-2/model"))
    expected = probe(last, task.test["text"][:], task.world.in_tail(task.test["text"]), settings)
    assert table.query("arm == 'real' and generation == 2").iloc[0][list(expected)].to_dict() == pytest.approx(expected)
