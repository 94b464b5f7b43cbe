"""Texts that strangers choose: ids, names, devices, places. What may be in them, and how they are shown.

A text may hold any writing of the world, and no character that nobody sees and that changes what is seen
around it: controls (C0, DEL, C1), marks that turn the direction of writing, separators of lines, and
characters of no width. Those are refused where a text comes in (Unicode TR 36, 2.5 and 3.2), at the border
of every store. What was stored before is shown isolated (Unicode UAX 9, 6.2), with such characters escaped.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence

from sojourn.errors import InvalidInput

ID_MAX = 256
"""Characters of an id or of a user's name, as every store keeps them."""
WORDS_MAX = 512
"""Characters of what a device says of itself, and of a place."""
ISOLATE, END_ISOLATE = "\u2068", "\u2069"

JOINERS = "\u200c\u200d"
_TAGS = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
"""Flags of regions are written with tags, which are of no width elsewhere (Unicode TS 51, ED-14a)."""
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # controls
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0"  # of no width, or blank letters
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction, and space of no width
    "\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"  # lines, joiners, annotations
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
    "\ud800-\udfff]"  # half a character
)
_LOOSE = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Joiners and selectors of variants: part of emoji and of some scripts, and hidden elsewhere."""
_ISOLATED = re.compile("[^\u2068\u2069]*(\u2068[^\u2068\u2069]*\u2069[^\u2068\u2069]*)*")
"""A text in which each isolation is ended."""
_VIRAMA = 9  # the canonical combining class
_EMOJI = ("So", "Sk")  # pictures, and skin tones


def bare(value: object) -> str:
    """Return the text of a subclass of str, such as Django's SafeString; as `enc_hook` of msgspec,
    which takes none by itself. Raises TypeError for anything else."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


def hidden(text: str) -> bool:
    """Tell whether a text holds a character that nobody sees, or that changes how others are seen."""
    if text.isascii():
        return not text.isprintable()
    text = _TAGS.sub("\U0001f3f4", text)
    if _HIDDEN.search(text):
        return True
    return any(not _belongs(text, each.start()) for each in _LOOSE.finditer(text))


def _belongs(text: str, at: int) -> bool:
    """Tell whether a joiner or a selector stands where a script or an emoji needs it."""
    mark, before, after = text[at], text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    if mark not in JOINERS:
        return (
            bool(before) and (not before.isascii() or before in "0123456789#*") and before != mark
        )
    if not before or not after:
        return False
    if mark == "\u200d" and unicodedata.category(after) in _EMOJI:
        return unicodedata.category(before) in _EMOJI or before == "\ufe0f"
    if unicodedata.combining(before) == _VIRAMA:  # RFC 5892, A.1 and A.2
        return True
    return mark == "\u200c" and {unicodedata.bidirectional(x) for x in (before, after)} == {"AL"}


def simple(texts: Sequence[str], most: int) -> bool:
    """Tell of texts, all at once, that none is hidden or longer than `most`, as of nearly all can be told.
    False for those that are not ASCII, no text, or long when taken together: each is to be looked at then."""
    try:
        joined = "".join(texts)
    except TypeError:
        return False
    return len(joined) <= most and joined.isascii() and joined.isprintable()


def check_id(what: str, text: str | None) -> None:
    """Raise InvalidInput unless a text can be an id: 1 to `ID_MAX` characters that are all seen."""
    check_words(what, text, most=ID_MAX)
    if text == "":
        raise InvalidInput(f"{what}: is empty.")


def check_words(what: str, text: str | None, *, most: int = WORDS_MAX) -> None:
    """Raise InvalidInput if a text is longer than `most` or holds a hidden character."""
    if text is None:
        return
    if not isinstance(text, str):
        raise InvalidInput(f"{what}: is no text.")
    if len(text) > most:
        raise InvalidInput(f"{what}: takes {most} characters at most.")
    if hidden(text):
        raise InvalidInput(
            f"{what}: holds a character that nobody can see.",
            hint="Take out controls, marks of writing direction, and characters of no width.",
        )


def plain(text: str | None, *, most: int = WORDS_MAX) -> str | None:
    """Return a text without hidden characters, cut to a length; None if nothing is left.

    For what comes along unasked (User-Agents) and is no reason to refuse anybody.
    """
    if text is None:
        return None
    if hidden(text):
        text = "".join(each for each in text if each.isprintable() and not hidden(each))
    return text[:most].strip() or None


def escaped(text: str) -> str:
    """Write hidden characters as their numbers, so that a terminal obeys none.

    Newlines stay, and isolations that are ended.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    kept = f"\n{ISOLATE}{END_ISOLATE}" if _ISOLATED.fullmatch(text) else "\n"
    return "".join(each if each in kept or _shows(each) else _code(each) for each in text)


def _shows(character: str) -> bool:
    if character in JOINERS:
        return True
    seen = character.isprintable() or unicodedata.category(character) == "Zs"
    return seen and not _HIDDEN.match(character)


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def escaped_json(document: str) -> str:
    """Write hidden characters in a JSON document by their numbers, which means the same."""
    if (document.isascii() and "\x7f" not in document) or not hidden(document.replace("\n", "")):
        return document
    return "".join(
        json.dumps(each)[1:-1] if each != "\n" and hidden(each) else each for each in document
    )


def isolated(text: str) -> str:
    """Write a text within a sentence, so that its direction changes nothing around it."""
    if text.isascii():
        return text
    return f"{ISOLATE}{escaped(text)}{END_ISOLATE}"
