"""A Student above its labeller: answers and words, counted by hand."""

import numpy as np
import pandas as pd
import pytest

from symbiosis.data.world import World
from symbiosis.small_studies import above_teacher

WORLD = World.make(5)


def test_an_answer_is_scored_where_the_labeller_is_right_and_wrong_and_by_how_well_it_knows_the_subtopic():
    test = pd.DataFrame({"label": [0, 0, 1, 1], "subtopic": [0, 3, 0, 3]})
    known = pd.DataFrame({"label": [0, 0, 0, 0, 1, 1], "subtopic": [0, 3, 3, 3, 0, 3]})
    accuracy = above_teacher.accuracy_by_subtopic(known, np.array([0, 0, 0, 1, 1, 0]))  # 1, 2/3, 1, 0
    bins = above_teacher.bins_of(test, accuracy)
    assert bins["doubted"].tolist() == bins["at_1"].tolist() == [False, True, False, False]
    assert bins["at_0"].tolist() == [False, False, False, True] and bins["at_4"].tolist() == [True, False, True, False]
    found = above_teacher.scores(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 0]), test, bins)
    at = {metric: (value, n) for metric, value, n in found}
    assert at["accuracy"] == (0.75, 4) and at["rescued"] == (1.0, 1) and at["kept"] == (pytest.approx(2 / 3), 3)
    assert at["accuracy_doubted"] == (0.0, 1) and at["accuracy_tail"] == (0.5, 2) and np.isnan(at["accuracy_at_2"][0])


def test_words_are_counted():
    entity = WORLD.slot_words["E"][0]
    counts = above_teacher.count_words([f"the {entity} of {entity}.", "nothing"], WORLD)
    assert counts[0, WORLD.places[entity]] == counts.sum() == 2
