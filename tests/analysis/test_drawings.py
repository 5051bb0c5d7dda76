"""A drawing says what was not run, and shows what was."""

import numpy as np
import pandas as pd
import pytest
from test_results import run_rows, write_reports, write_run

from symbiosis.analysis import drawings, gallery
from symbiosis.analysis.tables import STYLES
from symbiosis.store import results

pytestmark = pytest.mark.usefixtures("style")


def test_a_study_without_controls_or_lessons_says_so(tmp_path):
    reports = gallery.Reports(write_reports(tmp_path, seeds=[0], arms=["real"]))
    for name, reason in (("accuracy_controls", "No control"), ("lesson_levers", "not been measured")):
        with pytest.raises(gallery.NotRun, match=reason):
            gallery.draw(name, reports)
    assert len(gallery.draw("accuracy_comparison", reports)[1]) == 4


def test_guessing_is_drawn_only_where_the_number_of_classes_is_known(tmp_path):
    names = []
    for scale, classes in (("miniature", list("abcd")), ("tickets", list("abc")), ("older", [])):
        write_run(tmp_path / scale, run_rows("real", 0, scale), inputs={"classes": classes})
        results.collect(tmp_path / scale)
        fig, _ = gallery.draw("accuracy_comparison", gallery.Reports(tmp_path / scale, scale))
        names.append([text.get_text() for text in fig.axes[0].get_legend().get_texts()])
    assert names == [["Real data", "guessing one of 4"], ["Real data", "guessing one of 3"], ["Real data"]]


def test_sampling_alone_loses_rare_subtopics_from_lesson_to_lesson():
    rows = pd.DataFrame({"metric": "lesson_tail_coverage", "generation": [1, 2, 3], "n": 100})
    expected = drawings.sampling_alone(rows)
    assert expected[0] == 1 and len(expected) == 3 and (np.diff(expected) < 0).all()
    assert len(drawings.sampling_alone(rows.assign(metric="accuracy"))) == 0


def test_lessons_on_real_weights_stand_study_by_study_with_what_came_after_the_lesson(monkeypatch):
    keys = [key.split("/") for key in STYLES["real_lessons"]]
    rows = pd.DataFrame(
        {"study": study, "arm": arm, "seed": seed, "generation": t, "metric": "accuracy", "value": t * (0.7 + 0.01 * i)}
        for i, (study, arm) in enumerate(keys)
        for seed in range(12 if study.endswith("imitate") else 20)
        for t in (0, 1)
    )
    reports = drawings.Reports("none", "smollm")
    monkeypatch.setattr(type(reports), "by_study", dict(iter(rows.groupby("study"))))
    fig, used = drawings.real_lessons(reports)
    (ax,) = fig.axes
    points = [line.get_xdata()[0] for line in ax.lines]
    np.testing.assert_allclose(points, [0.7 + 0.01 * i for i in range(len(keys))])
    assert len(used) == len(rows)
    assert ax.yaxis.get_ticklabels()[0].get_text().startswith("surest labels")
    noted = [text.get_text() for text in ax.texts if text.get_text().startswith("n = ")]
    assert noted == ["n = 20"] * 6 + ["n = 12"] * 4
