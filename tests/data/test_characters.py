"""Identity and words of texts in any script."""

import itertools
import unicodedata

from symbiosis.data.characters import match_key, plain_words, words

ALIKE = [  # each row is one text
    ("Fish &amp; Chips, 5 o'clock!", "FISH & chips\u2014 5 o\u2019clock"),
    ("Caf\u00e9 \uff15", "cafe\u0301 5"),
    ("\u0420\u044b\u043d\u043e\u043a 75!", "\u00ab\u0440\u044b\u043d\u043e\u043a\u00bb 75"),
    ("\u65b0\u805e\u3002", "\u65b0 \u805e"),
    ("Stra\u00dfe", "STRASSE"),
    ("a\u200bb \ufeffc", "AB c"),
    ("nice \u2764\ufe0f", "nice \u2764"),
]
UNLIKE = [
    ("Fish &amp; Chips", "Fish & Chip"),
    ("\u0440\u044b\u043d\u043e\u043a 75", "\u0441\u043f\u043e\u0440\u0442 75"),
    ("\u0915\u093f", "\u0915\u0940", "\u0915"),  # Devanagari vowel signs
    ("\u0e21\u0e32", "\u0e21\u0e49\u0e32"),  # Thai tone marks
    ("\u05e9\u05c1", "\u05e9\u05c2"),  # Hebrew points
    ("\u0639\u064e", "\u0639\u0650"),  # Arabic vowels
    ("great \U0001f600", "great \U0001f621"),
    ("\U0001f600", "\U0001f621", "\u2192", "?!", ":)", ":("),  # no letter at all: the text itself
    ("\u00a35", "\u20ac5"),
    ("x \ue000", "x \ue001"),
    ("a &#" + "1" * 5000 + ";", "a"),
]


def test_match_keys_of_the_same_and_of_other_texts():
    assert match_key("Fish &amp; Chips, 5 o'clock!") == "fishchips5oclock"
    for row in ALIKE:
        assert len(set(map(match_key, row))) == 1, row
    for row in UNLIKE:
        assert len(set(map(match_key, row))) == len(row), row
    for text in itertools.chain(*ALIKE, *UNLIKE):
        assert match_key(unicodedata.normalize("NFD", text)) in (match_key(text), unicodedata.normalize("NFD", text))


def test_words_of_scripts_with_and_without_spaces():
    assert words("The the,  na\u00efve \u2014 x") == ["The", "the,", "na\u00efve", "\u2014", "x"]
    assert words("\u65b0\u805e ok\u3002\u304c\u3099") == ["\u65b0", "\u805e", "ok\u3002", "\u304c\u3099"]
    assert words("\u0e17\u0e35\u0e48\u0e19\u0e35\u0e48") == ["\u0e17\u0e35\u0e48", "\u0e19\u0e35\u0e48"]
    assert words("\ud55c\uad6d \ub274\uc2a4") == ["\ud55c\uad6d", "\ub274\uc2a4"]
    assert plain_words("It's A_b 5!") == ["it", "s", "a", "b", "5"]
    assert plain_words("\u00ab\u0420\u044b\u043d\u043e\u043a\u00bb, \u0939\u093f\u0928\u094d\u0926\u0940!") == [
        "\u0440\u044b\u043d\u043e\u043a", "\u0939\u093f\u0928\u094d\u0926\u0940",
    ]  # fmt: skip
    assert plain_words("\U0001f600 \u3002") == [] == words(" ")
