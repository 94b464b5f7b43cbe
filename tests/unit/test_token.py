"""Tokens: what is whole passes, what is garbled, forged or of another kind is refused, as such."""

from __future__ import annotations

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sojourn.errors import InvalidToken, SettingsError
from sojourn.token import (
    ALPHABET,
    LEASE_TOKEN_MAX,
    Keyring,
    LeaseClaims,
    TokenKind,
    check_token,
    hash_token,
    id_of,
    mask,
    new_id,
    new_token,
    token_of,
)

RANDOM_KINDS = [TokenKind.SESSION, TokenKind.LICENSE, TokenKind.API]
OLD, NEW = b"o" * 32, b"n" * 32
CLAIMS = LeaseClaims(
    pool_id="lic_1:editor",
    user_id="ann",
    client_id="tab",
    lease_id="lea_1",
    fence=7,
    issued_at=1_800_000_000_000,
)
claims = st.builds(
    LeaseClaims,
    pool_id=st.text(max_size=64),
    user_id=st.text(max_size=64),
    client_id=st.text(max_size=64),
    lease_id=st.text(max_size=32),
    fence=st.integers(0, 2**63 - 1),
    issued_at=st.integers(0, 2**52),
    session_id=st.none() | st.text(max_size=32),
)
positions = st.integers(0, 10_000)
characters = st.sampled_from(ALPHABET + "-_+/=. \n\x00é")


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_new_token_is_whole(kind: TokenKind) -> None:
    """A new token passes its own check, holds 256 bits, and is never the same twice."""
    tokens = {new_token(kind) for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        assert check_token(token, kind) == token
        assert len(token) == 4 + 43 + 6
        assert token.isascii()


@given(st.sampled_from(RANDOM_KINDS), positions, characters)
def test_one_wrong_character_is_noticed(kind: TokenKind, position: int, other: str) -> None:
    """A typo anywhere is refused without asking a store."""
    token = new_token(kind)
    position %= len(token)
    if token[position] == other:
        return
    with pytest.raises(InvalidToken):
        check_token(token[:position] + other + token[position + 1 :], kind)


@given(st.text())
def test_garbage_is_refused(text: str) -> None:
    """Whatever is not a token is refused as such, and nothing else happens."""
    for kind in RANDOM_KINDS:
        with pytest.raises(InvalidToken):
            check_token(kind + text, kind)
    with pytest.raises(InvalidToken):
        Keyring([OLD]).verify(TokenKind.LEASE + text)


def test_kinds_are_told_apart() -> None:
    """A token of another kind is refused as that, not as garbled."""
    for kind in RANDOM_KINDS:
        for other in set(RANDOM_KINDS) - {kind}:
            with pytest.raises(InvalidToken) as caught:
                check_token(new_token(kind), other)
            assert caught.value.code == "token_wrong_kind"
        with pytest.raises(InvalidToken) as caught:
            Keyring([OLD]).verify(new_token(kind))
        assert caught.value.code == "token_wrong_kind"


def test_cut_and_stretched_tokens_are_garbled() -> None:
    """A token that lost its end or gained one is garbled."""
    token = new_token(TokenKind.API)
    for wrong in (token[:-1], token + "0", token[:4]):
        with pytest.raises(InvalidToken) as caught:
            check_token(wrong, TokenKind.API)
        assert caught.value.code == "token_malformed"


def test_hash_and_mask() -> None:
    """Stores see 32 bytes, logs see the kind and four characters."""
    token = new_token(TokenKind.SESSION)
    assert len(hash_token(token)) == 32
    assert hash_token(token) != hash_token(token + " ")
    assert mask(token) == token[:8] + "…"
    assert mask("short") == mask("") == "…"


def test_ids_are_random() -> None:
    """Public ids are as good as never given twice."""
    ids = {new_id("lic_") for _ in range(100)}
    assert len(ids) == 100
    assert all(i.startswith("lic_") and len(i) == 26 for i in ids)


@given(claims)
def test_lease_token_round_trip(said: LeaseClaims) -> None:
    """What was signed reads back the same, whatever the ids hold."""
    keyring = Keyring([NEW, OLD])
    assert keyring.verify(keyring.sign(said)) == said


@given(claims, positions, characters)
def test_changed_lease_token_is_refused(said: LeaseClaims, position: int, other: str) -> None:
    """No character of a lease token may be changed, not even one that decodes to the same bytes."""
    keyring = Keyring([OLD])
    token = keyring.sign(said)
    position %= len(token)
    if token[position] == other:
        return
    with pytest.raises(InvalidToken):
        keyring.verify(token[:position] + other + token[position + 1 :])


@given(claims)
def test_last_character_counts(said: LeaseClaims) -> None:
    """Base64 leaves bits of the last character unused; no two tokens differ in those alone."""
    keyring = Keyring([OLD])
    token = keyring.sign(said)
    for other in ALPHABET + "-_":
        if other != token[-1]:
            with pytest.raises(InvalidToken):
                keyring.verify(token[:-1] + other)


def test_secrets_rotate() -> None:
    """The first secret signs, all verify; a token of a secret that was removed is forged."""
    old = Keyring([OLD]).sign(CLAIMS)
    both = Keyring([NEW, OLD])
    assert both.verify(old) == CLAIMS
    assert Keyring([NEW]).verify(both.sign(CLAIMS)) == CLAIMS
    with pytest.raises(InvalidToken) as caught:
        Keyring([NEW]).verify(old)
    assert caught.value.code == "token_forged"


def test_secret_of_another_use_does_not_sign() -> None:
    """The key is derived: a MAC made with the secret itself is forged."""
    payload = base64.urlsafe_b64decode(_padded(Keyring([OLD]).sign(CLAIMS)[4:]))[:-32]
    forged = base64.urlsafe_b64encode(payload + hmac.digest(OLD, payload, "sha256")).rstrip(b"=")
    with pytest.raises(InvalidToken) as caught:
        Keyring([OLD]).verify(TokenKind.LEASE + forged.decode())
    assert caught.value.code == "token_forged"


def test_claims_of_two_tokens_do_not_mix() -> None:
    """The payload of one token under the MAC of another is forged."""
    keyring = Keyring([OLD])
    mine, other = (
        base64.urlsafe_b64decode(_padded(keyring.sign(said)[4:]))
        for said in (CLAIMS, replace(CLAIMS, fence=8))
    )
    mixed = base64.urlsafe_b64encode(other[:-32] + mine[-32:]).rstrip(b"=").decode()
    with pytest.raises(InvalidToken) as caught:
        keyring.verify(TokenKind.LEASE + mixed)
    assert caught.value.code == "token_forged"


def test_overlong_token_is_not_even_read() -> None:
    """A token longer than any of ours is refused by its length."""
    with pytest.raises(InvalidToken, match="too long"):
        Keyring([OLD]).verify(TokenKind.LEASE + "A" * LEASE_TOKEN_MAX)


def test_minted_token_can_be_made_again() -> None:
    """From seed and note, under whichever secret of the list it was made; each one is another."""
    old, new = b"o" * 32, b"n" * 32
    token, note = Keyring([old]).mint(b"seed")
    assert check_token(token, TokenKind.SESSION) == token
    assert token not in note
    assert Keyring([new, old]).mint_again(b"seed", note) == token
    assert Keyring([new]).mint_again(b"seed", note) is None
    assert Keyring([old]).mint_again(b"another", note) is None
    assert Keyring([old]).mint_again(b"seed", "") is None
    assert len({Keyring([old]).mint(b"seed")[0] for _ in range(50)}) == 50


def test_keyring_needs_good_secrets() -> None:
    """No secret, or a short one among several, stops the start with a way out."""
    for secrets in ([], [b"short"], [NEW, b"s" * 31]):
        with pytest.raises(SettingsError) as caught:
            Keyring(secrets)
        assert "sojourn secret new" in caught.value.hint


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)


@given(st.binary(min_size=32, max_size=32))
def test_digits_are_those_of_the_number(entropy: bytes) -> None:
    for text, size in (
        (token_of(TokenKind.SESSION, entropy)[4:-6], 32),
        (id_of("", entropy[:16]), 16),
    ):
        number = 0
        for digit in text:
            number = number * 62 + ALPHABET.index(digit)
        assert number == int.from_bytes(entropy[:size])
