"""What small models read: plain documents, labelled texts, which of these are near, and what bad corpora say."""

from pathlib import Path

import numpy as np
import pytest

from symbiosis.data import corpora
from symbiosis.data.readers import DataError, read_table

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
NAMES = ["World", "Sports", "Business"]


def documents(path):
    return [row["text"] for _, row in read_table(path).rows]


def test_near_texts_share_words_and_class_but_are_no_copies():
    texts = [
        "red apple pie",
        "red apple pie!",
        "red apple tart",
        "green car engine",
        "red apple cake",
        "blue car motor",
    ]
    near = corpora.near_texts(texts, np.array([0, 0, 0, 0, 1, 1]))
    assert near[2][0] in (0, 1) and list(near[4]) == [5] and list(near[5]) == [4]
    assert list(near[0]) == [2]  # not 1, the same words again, nor 4, another class


def test_tf_idf_by_hand():
    v = corpora.tf_idf(["cat cat dog", "dog cow", "cow pig"]).toarray()  # words in order: cat cow dog pig
    raw = np.array([(1 + np.log(2)) * np.log(3), 0, np.log(3 / 2), 0])
    assert v[0] == pytest.approx(raw / np.linalg.norm(raw), abs=1e-6)
    texts = ["\u0434\u043e\u043c \u043a\u043e\u0442", "\u043b\u0435\u0441", "\u0414\u043e\u043c!", "\u5e02\u573a"]
    other = corpora.tf_idf(texts)
    cosine = (other @ other.T).toarray()
    assert cosine[0, 2] > 0.4 and cosine[0, 1] == 0 and other.getnnz(axis=1).tolist() == [2, 1, 1, 2]


def test_plain_documents_of_each_kind(tmp_path):
    path = tmp_path / "x.txt"
    book = "It was a dark and\nstormy night indeed.\n\nThe end came\nsoon after that.\n"
    path.write_text(f"Licence\n*** START OF THIS EBOOK ***\n\n{book}\n*** END OF THIS EBOOK ***\nmore licence")
    assert documents(path) == ["It was a dark and stormy night indeed.", "The end came soon after that."]
    path.write_text(
        " = Heading of an article = \n \n The 1 @,@ 000 <unk> men of the @-@ old regiment , it is said , went home .\n"
    )
    assert documents(path) == ["The 1,000 men of the-old regiment, it is said, went home."]
    path.write_text("first document of the file\nsecond document of the file\n")
    assert documents(path) == ["first document of the file", "second document of the file"]


def test_a_missing_or_malformed_corpus_is_named(tmp_path):
    for call, message in (
        (
            lambda: corpora.read_plain("nowhere"),
            r"student_corpus: .*nowhere is no folder with \.txt files; make it one",
        ),
        (lambda: corpora.read_plain(str(tmp_path)), r"student_corpus: .* is no folder with \.txt files"),
        (
            lambda: corpora.read_labelled("nowhere.csv", NAMES),
            r"generator_corpus: .*nowhere\.csv is no file with texts",
        ),
    ):
        with pytest.raises(DataError, match=message):
            call()
    (tmp_path / "short.txt").write_text("too short\n")
    with pytest.raises(DataError, match=r"student_corpus: the \.txt files of .* hold no text"):
        corpora.read_plain(str(tmp_path))
    path = tmp_path / "bad.csv"
    for text, message in (
        ("class_index,title,description\n1,a,b\n2,a\n", r"bad\.csv, line 3: .*2 columns where"),
        ("class_index,title,description\n4,a,b\n", r"bad\.csv, line 2: unknown label 3 \(known: 0 World, 1 Sports"),
        ("label,text\nWeather,rain\n", r"bad\.csv, line 2: unknown label 'Weather'"),
        ("class_index,title,description,joined_text\n1,,,\n", r"bad\.csv, line 2: no text, or title"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            corpora.read_labelled(str(path), NAMES)


def test_labelled_texts_are_title_and_description_or_joined(tmp_path):
    path = tmp_path / "extra.csv"
    path.write_text('class_index,title,description,joined_text\n3,Oil,up again,\n1,,,"All, in one"\n')
    texts, labels = corpora.read_labelled(str(path), NAMES)
    assert texts == ["Oil up again", "All, in one"] and labels.tolist() == [2, 0]
    with pytest.raises(DataError, match=r"extra\.csv: fewer than two texts of World, Sports, Business; add some"):
        corpora.check_classes(labels, NAMES, str(path))


@pytest.mark.skipif(not (REAL / "ag_news").is_dir(), reason="needs ../shared/data/ag_news")
def test_real_news_has_near_texts_of_its_class():
    names = (REAL / "ag_news" / "classes.txt").read_text().split("\n")[:4]
    texts, labels = corpora.read_labelled(str(REAL / "ag_news" / "train_extra.csv"), names)
    assert len(texts) == 14138 and np.bincount(labels).tolist() == [3209, 3138, 3154, 4637]
    some = np.arange(0, len(texts), 10)
    texts, labels = [texts[i] for i in some], labels[some]
    near = np.stack(corpora.near_texts(texts, labels))
    assert (labels[near] == labels[:, None]).all() and (near != np.arange(len(texts))[:, None]).all()
    vectors = corpora.tf_idf(texts)
    cosine = vectors.multiply(vectors[near[:, 0]]).sum(1).mean()
    chance = vectors.multiply(vectors[np.random.default_rng(0).permutation(len(texts))]).sum(1).mean()
    assert cosine > 5 * chance  # near means near: unrelated news hardly shares a rare word
