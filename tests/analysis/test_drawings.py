"""A drawing says what was not run, and shows what was."""

import numpy as np
import pandas as pd
import pytest
from test_results import run_rows, write_reports, write_run

from symbiosis.analysis import drawings, gallery
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
