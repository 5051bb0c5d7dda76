"""The miniature world is what its docstring says: exact probabilities, one parse per text, tails that borrow."""

import itertools

import numpy as np
import pytest

from symbiosis.data.world import (
    CLASS_WORDS,
    GLOBAL_WORDS,
    LABEL_NAMES,
    N_HEAD,
    SLOTS,
    SUBTOPIC_WORDS,
    TEMPLATES,
    World,
    parse,
    zipf,
)

WORLD = World.make(0)


def split(words):
    return [part.split() for part in words.split(" / ")]


def written_words():
    """Every word of every list, with repetitions."""
    lists = [ws for topics in SUBTOPIC_WORDS.values() for ws in topics.values()] + [*CLASS_WORDS.values(), GLOBAL_WORDS]
    return [word for words in lists for part in split(words) for word in part]


def test_lists_share_no_word_but_those_that_tails_borrow():
    words = written_words()
    assert len(words) == 4 * (24 * 4 + 4 * 4 + 8)  # four slots of 24 subtopics, 4 classes and one global list
    assert len(set(words)) == len(words)
    assert not set(words) & set(LABEL_NAMES)

    for c, k in np.ndindex(4, 6):
        donor_class, donor_rank = WORLD.donors[c, k]
        if k < N_HEAD:
            assert (donor_class, donor_rank) == (-1, -1)
            continue
        assert donor_class != c
        assert donor_rank < N_HEAD
        for slot in SLOTS:
            shared = set(WORLD.lists[c, k, slot]) & set(WORLD.lists[donor_class, donor_rank, slot])
            assert len(shared) == 2


def test_shares_and_word_probabilities_by_hand():
    assert zipf(6) == pytest.approx([0.381, 0.204, 0.142, 0.110, 0.090, 0.076], abs=2e-3)
    assert WORLD.shares[list(WORLD.tail)].sum() == pytest.approx(0.416, abs=1e-3)  # the true tail mass
    assert zipf(3, 1.0) == pytest.approx(np.array([6, 3, 2]) / 11)
    assert WORLD.probabilities.sum(axis=-1) == pytest.approx(np.ones((4, 4, 6)))
    # Most frequent entity of a head subtopic: .50 * 1/(1 + 2^-.5 + 3^-.5 + 4^-.5) + .02 / (entities), nothing else.
    word = split(SUBTOPIC_WORDS["sports"][WORLD.subtopics[1][0]])[0][0]
    expected = 0.50 / (1 + 2**-0.5 + 3**-0.5 + 0.5) + 0.02 / len(WORLD.slot_words["E"])
    assert WORLD.probabilities[0, 1, 0, WORLD.slot_words["E"].index(word)] == pytest.approx(expected)


def test_likelihood_and_posterior_by_hand():
    words = {slot: WORLD.lists[2, 0, slot][0] for slot in SLOTS}
    text = " ".join([TEMPLATES[0].format(**words), TEMPLATES[5].format(**words)])
    p = [WORLD.probabilities[s, 2, 0, WORLD.slot_words[slot].index(words[slot])] for s, slot in enumerate(SLOTS)]
    assert WORLD.log_likelihood([text])[0, 2, 0] == pytest.approx(2 * np.log(p).sum() - 2 * np.log(8))

    # Everything fixed but one slot: the texts that differ in one word share the rest of the product, so their
    # probabilities add up to that rest, and dividing by it must give 1.
    fixed = {slot: WORLD.slot_words[slot][0] for slot in SLOTS}
    first = TEMPLATES[1].format(**fixed)
    texts = [f"{first} {TEMPLATES[3].format(**(fixed | {'N': noun}))}" for noun in WORLD.slot_words["N"]]
    p = np.exp(WORLD.log_likelihood(texts))  # (W, C, K)
    column = WORLD.probabilities[:, :, :, 0]  # (S, C, K), the fixed words
    rest = (column.prod(axis=0) ** 2 / column[SLOTS.index("N")]) / 64
    assert p.sum(axis=0) / rest == pytest.approx(np.ones((4, 6)))

    docs = WORLD.sample(50, np.random.default_rng(2))
    joint = np.exp(WORLD.log_likelihood(docs.text) + 60) * WORLD.shares
    expected = joint.sum(axis=2) / joint.sum(axis=(1, 2))[:, None]
    assert WORLD.posterior(docs.text) == pytest.approx(expected)


def test_sampler_and_likelihood_agree():
    # For x drawn from the uniform mixture m of all 24 subtopics, E[p(x | c, k) / m(x)] = 1 for each of them: true only
    # if the likelihood is normalised and is that of the sampler. The ratio is at most 24, so its mean is well behaved.
    n = 4800
    which = np.arange(n) % 24
    docs = WORLD.sample(n, np.random.default_rng(1), labels=which // 6, subtopics=which % 6)
    p = WORLD.log_likelihood(docs.text)
    ratio = np.exp(p - np.log(np.exp(p + 60).mean(axis=(1, 2), keepdims=True)) + 60).reshape(n, 24)
    stderr = ratio.std(axis=0, ddof=1) / np.sqrt(n)
    assert (np.abs(ratio.mean(axis=0) - 1) < 4.5 * stderr).all()
    assert (stderr < 0.1).all()  # a likelihood off by a tenth would have been seen
    assert (WORLD.subtopic(docs.text) == which).mean() > 0.95  # and each text points to its own subtopic


def test_texts_fit_one_template_a_sentence_or_are_read_by_their_words():
    words = dict(zip(SLOTS, ("striker", "scored", "goal", "pitch"), strict=True))
    for first, second in itertools.product(range(len(TEMPLATES)), repeat=2):
        text = f"{TEMPLATES[first].format(**words)} {TEMPLATES[second].format(**words)}"
        assert parse(text) == [(first, words), (second, words)]

    texts = [
        "",
        "the striker scored the goal at the pitch.",  # one sentence
        "the striker scored the goal at the pitch. the striker scored the goal at the pitch",  # no full stop
        "the striker scored the goal at pitch. the striker scored the goal at the pitch.",  # a word is missing
        "the striker scored the goal at the pitch.  the striker scored the goal at the pitch.",  # two spaces
        "the scored striker the goal at the pitch. the striker scored the goal at the pitch.",  # words in wrong slots
    ]
    assert np.isneginf(WORLD.log_likelihood(texts)).all()
    label = 2
    words = [w for slot in SLOTS for w in WORLD.lists[label, 0, slot]]
    posterior = WORLD.posterior([" ".join(words), "the the of", ""])
    assert posterior[0, label] > 0.99
    assert posterior[1:] == pytest.approx(np.full((2, 4), 0.25))  # no slot word: nothing is known
    assert WORLD.subtopic([" ".join(words), "the the of"]).tolist() == [label * 6, -1]


def test_bayes_accuracy_leaves_little_noise():
    docs = WORLD.sample(3000, np.random.default_rng(3))
    right = WORLD.posterior(docs.text).argmax(axis=1) == docs.label
    assert 0.98 < right.mean() < 0.995  # measured .988-.990 over worlds; standard error .002


def test_texts_follow_seed_labels_and_shares_and_are_made_of_the_vocabulary():
    assert World.make(0).subtopics == WORLD.subtopics
    assert World.make(1).subtopics != WORLD.subtopics
    draw = [WORLD.sample(8, np.random.default_rng(seed)).text.tolist() for seed in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]
    docs = WORLD.sample(400, np.random.default_rng(0), shares=np.eye(6)[3])
    assert set(docs.subtopic) == {3}
    assert docs.label.value_counts().tolist() == [100] * 4  # balanced
    given = np.repeat([1, 3], 5)
    assert WORLD.sample(10, np.random.default_rng(0), labels=given).label.tolist() == given.tolist()

    docs = WORLD.sample(5000, np.random.default_rng(4))
    seen = {word for text in docs.text for word in text.replace(".", " .").split()}
    assert seen <= set(WORLD.vocabulary())
    assert len(set(WORLD.vocabulary()) - seen) < 5  # 5000 texts leave next to nothing unsaid
    assert WORLD.vocabulary() == sorted(set(WORLD.vocabulary()))
