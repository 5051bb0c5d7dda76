"""Repairs of texts on their way in: leftovers of HTML, characters nobody sees, and what AG News alone has."""

import html
import re
from collections import Counter
from typing import Any

from tqdm.auto import tqdm

from symbiosis.data.characters import without_unseen

# AG News lost the '&' of its entities (" #39;s", " quot;", " amp;"), kept others ("&lt;b&gt;"), and writes "\" for a
# line break, "\$" for a dollar sign and "<WMT.N>" for a stock. Other texts keep all that, and lose only HTML: entities
# with their "&", and tags. Both by lists: words before a semicolon ("the cup; it") and what stands between "<" and ">"
# ("x<y and y>z", "<john@ex.com>") are not always HTML. Every expression is linear in the length of the text.
_ENTITY = r"(?:amp;)*(#[0-9]{1,7}|#x[0-9a-fA-F]{1,6}|quot|amp|lt|gt|nbsp|hellip|[lr][sd]quo|[mn]dash"
_ENTITY += r"|[A-Za-z](?:acute|grave|circ|uml|tilde|cedil));"
_BREAKS = ("p", "br", "div", "td", "tr", "li", "table")  # tags that part words; all others stand inside them
_TAGS = (
    *_BREAKS, "a", "abbr", "b", "big", "blockquote", "body", "center", "cite", "code", "dd", "del", "dl", "dt", "em",
    "font", "form", "h[1-6]", "head", "hr", "html", "i", "iframe", "img", "input", "ins", "link", "meta", "nobr", "ol",
    "option", "pre", "q", "s", "script", "small", "span", "strike", "strong", "style", "sub", "sup", "tbody", "th",
    "thead", "title", "tt", "u", "ul",
)  # fmt: skip
_TAG = rf"<(?=[/A-Za-z])/?({'|'.join(_TAGS)})(?:\s[^<>=]*=[^<>]*|\s*/?)>"
_PASSES = 4  # one repair can make room for another; what is nested deeper stays


def _unescaped(match: re.Match) -> str:
    return html.unescape(f"&{match[1]};")


def _untagged(match: re.Match) -> str:
    return " " if match[1].lower() in _BREAKS else ""


_SPACE = (("space", re.compile(r"^\s+|(?<!\s)\s+$"), ""), ("space", re.compile(r"\s{2,}|[^\S ]"), " "))
_REPAIRS: tuple[tuple[str, re.Pattern, Any], ...] = (
    ("entity", re.compile(rf"&{_ENTITY}"), _unescaped),
    ("tag", re.compile(_TAG, re.IGNORECASE), _untagged),
    *_SPACE,
)
_AG_NEWS_REPAIRS: tuple[tuple[str, re.Pattern, Any], ...] = (
    ("entity", re.compile(rf"[ &]{_ENTITY}"), _unescaped),
    ("tag", re.compile(rf"{_TAG}|(?-i:<[A-Z][A-Za-z0-9.]*>)", re.IGNORECASE), lambda m: _untagged(m) if m[1] else ""),
    ("dollar", re.compile(r"\\\$"), "$"),
    ("backslash", re.compile(r"\\+"), " "),
    *_SPACE,
)


def seen(text: str, where: str) -> str:
    """The text without characters nobody sees; how many went is said in a line."""
    text, n = without_unseen(text)
    if n:
        tqdm.write(f"{where}: {n:,} control characters left out")
    return text


def clean(text: str, counts: Counter | None = None, *, of_ag_news: bool = False) -> str:
    """The text without leftovers of HTML, characters nobody sees and doubled white space; AG News's, without its own.

    `counts` gains the number of repairs of each kind. Repeats until nothing changes, at most _PASSES times.
    """
    counts = Counter() if counts is None else counts
    for _ in range(_PASSES):
        before = text
        text, n = without_unseen(text)
        counts["control"] += n
        for kind, pattern, replacement in _AG_NEWS_REPAIRS if of_ag_news else _REPAIRS:
            text, n = pattern.subn(replacement, text)
            counts[kind] += n
        if text == before:
            break
    return text
