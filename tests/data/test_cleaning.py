"""Repairs: AG News by hand, other people's texts left alone, and no text that takes longer than its length."""

import random
import re
import time
from collections import Counter

from symbiosis.data.characters import match_key, plain_words, words
from symbiosis.data.cleaning import clean
from symbiosis.data.world import parse

OF_AG_NEWS = {
    "Canada #39;s largest": "Canada's largest",
    "is  #39;Kiss of Death #39; for": "is 'Kiss of Death' for",
    "a  quot;smart bomb quot; from": 'a "smart bomb" from',
    "AT amp;T and Merck  amp; Co.": "AT&T and Merck & Co.",
    "soared  #36;14.97 to \\$187.40": "soared $14.97 to $187.40",
    "seven\\lawsuits against\\\\": "seven lawsuits against",
    "software  #151; free": "software \u2014 free",
    "&lt;b&gt;...&lt;/b&gt; A Filipino": "... A Filipino",
    'Corp. &lt;A HREF="http://a.b/c?d=e"&gt;F.N&lt;/A&gt;, a': "Corp. F.N, a",
    "Micron &lt;MU.N&gt;, oil &lt;CLc1&gt; rose": "Micron , oil rose",
    "one&lt;br&gt;two": "one two",
    "preparing nbsp;to  make": "preparing to make",
    "the cup; it is 3 < 4 & 5 > 2": "the cup; it is 3 < 4 & 5 > 2",
}
OF_ANYONE = {
    "R&amp;D &amp;lt;b&gt;now&lt;/b&gt;<br />then": "R&D now then",
    '<p class="x">a</p> b': "a b",
    " a \t b\u00a0\u2028c ": "a b c",
    "a\0b\x1bc\u202ed\ud800e\x85f": "abcde f",
}
LEFT_ALONE = (
    "if x<y and y>z", "mail John <john@ex.com> now", "\\frac{a}{b} C:\\temp\\new \\$5", "fixes #12; closes #13;",
    "List<String> a<T>", "buy <MU.N>", "the <unk> one", "1 < b and c > d", "&alpha; AT&T; a quot; b", "me\u200c\u0646",
)  # fmt: skip


def test_clean_and_its_counts_by_hand_and_twice():
    for of_ag_news in (True, False):
        by_hand = OF_AG_NEWS if of_ag_news else OF_ANYONE | {text: text for text in LEFT_ALONE}
        assert {dirty: clean(dirty, of_ag_news=of_ag_news) for dirty in by_hand} == by_hand
    counts = Counter()
    clean("a #39;s \\$5 &lt;b&gt;x&lt;/b&gt;\\y", counts, of_ag_news=True)
    assert +counts == {"entity": 5, "dollar": 1, "tag": 2, "backslash": 1}

    draw = random.Random(0)
    pieces = [*"ab <>/&;#\\$", " #39;", " quot;", "&lt;", "&gt;", "&amp;", "lt;", "<p>", "amp;", "#92;", "  ", "\xa0"]
    for _ in range(3000):
        text = clean("".join(draw.choices(pieces, k=draw.randint(1, 14))), of_ag_news=True)
        assert clean(text, of_ag_news=True) == text
        assert not re.search(r"\\| #39;|&lt;|&gt;|^\s|\s$|\s\s", text), text


def test_a_million_characters_take_no_time():
    """Each took hours where an expression was quadratic; a second is plenty."""
    n = 1_000_000
    for text in (
        "a" + " " * n + "b", "&" + "amp;" * (n // 4) + "x", "<" * (n // 4) + "b>" * (n // 4), "<" * n,
        "<a " + "=" * n, "<a" + " " * n, "&#" + "1" * n + ";", "\\" * n, "\n \n" * (n // 3) + "x",
        "&lt;" * (n // 8) + "b&gt;" * (n // 8),
    ):  # fmt: skip
        for work in (clean, lambda text: clean(text, of_ag_news=True), match_key, words, plain_words, parse):
            start = time.process_time()
            work(text)
            assert time.process_time() - start < 3, (text[:9], work)
