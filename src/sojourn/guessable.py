"""Secrets that somebody could guess, by their content: samples of documentation, sequences, repetition.

What passes is not proven to be random: nobody can tell that of a text. It only has none of these faults.
"""

from __future__ import annotations

import re

NEW_MIN = 12
"""Characters that must remain when phrases, sequences and repetition are taken out of a secret."""
DISTINCT_MIN = 8
"""Different characters that a secret must have."""
RUN_MIN = 4
"""Characters from which on a sequence (1234, dcba, aaaa) or a repeated piece counts as one."""
INSECURE = "django-insecure-"
"""How keys begin that Django's `startproject` makes: they are in the repositories of their projects."""

_KNOWN = """
verysecretkey verysecret 256bitsecret 256bitkey 32chars atleast32 forjwtsigning jwtsigningkey forproduction
keyboardcat keyboardkitten changeinproduction changethisinproduction changethis changeme replacethis
replaceme yoursecretkeyhere yoursecretkey yoursecrethere yoursecret mysecretkey mysecret supersecretkey
supersecret topsecret notsosecret notasecret thisisasecret thisissecret secretkey secretvalue sessionsecret
jwtsecret cookiesecret appsecret signingsecret somesecret averylongsecret verylongsecret atleast32characters
32characterslong morethan32characters mustbe32characters longstring randomstring somerandomstring
arandomstring putyoursecrethere insertsecrethere donotuseinproduction dontuseinproduction notforproduction
inproduction devsecretkey developmentkey devsecret developmentsecret testsecret examplesecret defaultsecret
insecuresecret insecure unsafe placeholder example default development correcthorsebatterystaple password
passw0rd letmein iloveyou trustno1 qwertyuiop qwerty asdfghjkl asdf zxcvbnm 1qaz2wsx3edc 1q2w3e4r5t
helloworld foobarbaz foobar loremipsum deadbeef cafebabe 1q2w3e4r5t6y7u8i9o0p q1w2e3r4t5y6u7i8o9p0 lorem
ipsum dolor sitamet consectetur adipiscing production prod staging localhost please replacewith replace
insert enter your change update here thisis thatis never share commit session cookie token jwt auth oauth
application server service sojourn flask django express fastapi laravel rails spring node python react
company project website backend frontend database redis postgres mysql character chars letters more than
atleast minimum length long enough random string value hash salt sign signing encryption crypto master root
user login signin pass pwd welcome monkey dragon sunshine princess football baseball batman superman
starwars whatever temp temporary dummy fake sample simple easy only horse battery staple correct because
hunter2 something anything nothing someone secure super safe strong hidden private
"""
"""Of documentation, tutorials, sample settings and lists of passwords, and words of which such are made;
without case and separators. Random text has hardly ever one of them, and enough beside it."""
PHRASES = tuple(sorted(_KNOWN.split(), key=len, reverse=True))
_PHRASES = re.compile("|".join(PHRASES))
_SEPARATORS = re.compile(r"[\W_]+")


def guessable(secret: str, *, development: bool = False) -> bool:
    """Tell whether a secret is a known one, or little but phrases, sequences and repetition.

    `development`: a key that Django made for developing may pass.
    """
    text = secret.strip().lower()
    if text.startswith(INSECURE):
        if not development:
            return True
        text = text.removeprefix(INSECURE)
    rest = _new(_PHRASES.sub("\n", _SEPARATORS.sub("", text)))
    return len(rest) < NEW_MIN or len(set(secret)) < DISTINCT_MIN


def _new(text: str) -> str:
    """Return what is left of a text without its sequences and without what it has said before."""
    kept: list[str] = []
    seen: set[str] = set()
    at = 0
    while at < len(text):
        length = _sequence(text, at)
        if length >= RUN_MIN:
            kept.append(text[at])
            at += length
            continue
        piece = text[at : at + RUN_MIN]
        if len(piece) == RUN_MIN and piece in seen:
            while at < len(text) and text[at : at + RUN_MIN] in seen:
                at += 1  # as far as it goes on as before
            at += RUN_MIN - 1
            continue
        if at >= RUN_MIN - 1:
            seen.add(text[at - RUN_MIN + 1 : at + 1])
        kept.append(text[at])
        at += 1
    return "".join(kept).replace("\n", "")


def _sequence(text: str, at: int) -> int:
    """Return how many characters from here on are one step apart, the same step each."""
    if at + 1 >= len(text):
        return 1
    step = ord(text[at + 1]) - ord(text[at])
    if abs(step) > 1:
        return 1
    end = at + 1
    while end < len(text) and ord(text[end]) - ord(text[end - 1]) == step:
        end += 1
    return end - at
