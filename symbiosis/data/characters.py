"""Which characters of a text count, in any script: as its identity, as its words, and not at all."""

import html
import re
import unicodedata
from collections.abc import Callable

# Han, kana, Thai, Lao, Tibetan, Burmese and Khmer part no words by white space: each character there is a word
_UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_UNSPACED += "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_MARKS = "".join(c for c in map(chr, range(0x300, 0x30FF)) if unicodedata.category(c)[0] == "M") + "\uff9e\uff9f"
_UNSPACED_WORD = re.compile(f"[{_UNSPACED}][{_MARKS}]*")

# controls, overrides of the direction of writing, hidden tags, halves of characters; white space is none of them
_UNSEEN = re.compile("[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]")


class _Table(dict):
    """For `str.translate`: what becomes of a character is worked out when it first comes up."""

    def __init__(self, rule: Callable[[str], str]):
        self.rule = rule

    def __missing__(self, code: int) -> str:
        self[code] = self.rule(chr(code))
        return self[code]


def _identifying(c: str) -> str:
    """The character, unless it is white space, punctuation, a control, a variation selector or an ASCII symbol."""
    kind = unicodedata.category(c)
    drops = kind[0] in "ZP" or kind in ("Cc", "Cf", "Cs", "Sk") or "\ufe00" <= c <= "\ufe0f"
    return "" if drops or (c.isascii() and not c.isalnum()) else c


def _in_word(c: str) -> str:
    """A letter, mark or number as it is, a joiner inside a word as nothing, all else as a space."""
    kind = unicodedata.category(c)
    return c if kind[0] in "LMN" else "" if kind == "Cf" else " "


_IDENTIFYING, _IN_WORD = _Table(_identifying), _Table(_in_word)


def match_key(text: str) -> str:
    """What two texts are compared by: HTML unescaped, one case, one Unicode form (NFKC), without white space and signs.

    Of ASCII the letters and digits stay; of all other characters letters, their marks, numbers and symbols (emoji)
    do. A text that has none is its own key.
    """
    try:
        plain = html.unescape(text)
    except ValueError:  # a character's number of thousands of digits
        plain = text
    if plain.isascii():
        return re.sub(r"[^a-z0-9]", "", plain.lower()) or text
    folded = unicodedata.normalize("NFKC", plain.translate(_IDENTIFYING)).casefold()
    return unicodedata.normalize("NFKC", folded).translate(_IDENTIFYING) or text


def words(text: str) -> list[str]:
    """What stands between white space; in scripts that part no words (see _UNSPACED) each character with its marks."""
    return (text if text.isascii() else _UNSPACED_WORD.sub(r" \g<0> ", text)).split()


def plain_words(text: str) -> list[str]:
    """The words in lower case without punctuation, in any script."""
    if text.isascii():
        return re.findall(r"[a-z0-9]+", text.lower())
    return words(unicodedata.normalize("NFKC", text.translate(_IN_WORD)).lower())


def without_unseen(text: str) -> tuple[str, int]:
    """The text without control characters, overrides of direction and broken characters, and how many went."""
    return _UNSEEN.subn("", text)
