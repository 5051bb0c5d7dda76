"""Token editing against the model asked row by row, token by token."""

import numpy as np
import pytest
from model_helpers import LABELS, TEXTS, log_p

from symbiosis.models import loading
from symbiosis.models.editing import edit
from symbiosis.models.sampling import Sampling
from symbiosis.models.student import Student
from symbiosis.models.tokens import control_tokens
from symbiosis.settings import RunSettings


@pytest.fixture(scope="module")
def student(neox_folder):
    settings = RunSettings(
        max_length=32, generation_batch_size=3, method="recursive", mixing="edit", edit_threshold=0.0
    )
    return Student(loading.load(str(neox_folder), device="cpu"), LABELS, settings)


def test_what_the_model_finds_likely_is_drawn_given_the_row_as_it_was(student):
    rows, given = student.written_rows(TEXTS, [0, 0, 1, 1, 2, 2, 3, 3])
    control, (model, tokenizer) = {i for i in control_tokens(student.lm.tokenizer) if i < 400}, student.lm
    likely = [np.exp(log_p(model, row)) for row in rows]
    own = [[likely[i][j - 1, row[j]] for j in range(1, len(row))] for i, row in enumerate(rows)]
    threshold = float(np.median(np.concatenate(own)))
    greedy = Sampling(1.0, 1e-9, 40, 3)  # a nucleus of the likeliest token
    edited, n = edit(student.lm, (rows, given), greedy, threshold=threshold, seed=1)
    expected = [list(row) for row in rows]
    for i, row in enumerate(rows):
        likely[i][:, list(control)] = 0
        for j in range(given[i], len(row)):
            if row[j] not in control and own[i][j - 1] >= threshold:
                expected[i][j] = int(likely[i][j - 1].argmax())
    assert edited == expected != rows and tokenizer.eos_token_id == edited[0][-1]
    assert 0 < n < sum(map(len, rows)) - sum(given)
    assert edit(student.lm, (rows, given), greedy, threshold=1.0, seed=1) == (rows, 0)


def test_draws_have_the_models_probabilities_and_hang_on_no_batch(student):
    row, label = student.written_rows(TEXTS[:1], [1]), Sampling(1.0, 1.0, 40, 64)
    rows, given = row[0] * 2000, row[1] * 2000
    edited, n = edit(student.lm, (rows, given), label, threshold=0.0, seed=3)
    assert n == 2000 * (len(rows[0]) - given[0] - 1)  # all but the end
    place = given[0] + 2
    p = np.exp(log_p(student.lm.model, rows[0])[place - 1])
    p[[i for i in control_tokens(student.lm.tokenizer) if i < 400]] = 0
    best, p = p.argmax(), p / p.sum()
    share = np.mean([some[place] == best for some in edited])
    assert abs(share - p[best]) < 4 * np.sqrt(p[best] / 2000)
    one_by_one = Sampling(1.0, 1.0, 40, 1)
    some = rows[:5], given[:5]
    assert edit(student.lm, some, one_by_one, threshold=0.0, seed=3) == edit(
        student.lm, some, label, threshold=0.0, seed=3
    )


def test_a_student_edits_texts_and_what_was_cut_stays_cut(student):
    texts, n = student.edited([TEXTS[0], " ".join(TEXTS)], [0, 1], seed=2)
    assert [text.cut for text in texts] == [False, True] and n > 32
    assert texts != [TEXTS[0], " ".join(TEXTS)] and all(texts)
