"""Who is calling, as the Authorization header says. Proof is never read from a URL, and from a body a
goodbye's alone (`api.beacons`)."""

from __future__ import annotations

from sojourn.errors import InvalidToken, Unauthenticated
from sojourn.token import TokenKind

_KINDS = {kind.value: kind for kind in TokenKind}


def bearer(authorization: bytes, wanted: str) -> str:
    """Return the credentials of `Authorization: Bearer …`. `wanted` names what the call needs."""
    if not authorization:
        raise Unauthenticated(
            "No proof of who is calling was given.", hint=f"Send `Authorization: Bearer {wanted}`."
        )
    if authorization[:7] != b"Bearer ":
        scheme, _, rest = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthenticated(
                "The Authorization header is not of the scheme Bearer.",
                hint=f"Send `Authorization: Bearer {wanted}`.",
            )
        authorization = b"Bearer " + rest
    try:
        token = authorization[7:].decode().strip()
    except UnicodeDecodeError:
        raise InvalidToken("The token is mistyped, or not whole.") from None
    if not token:
        raise Unauthenticated(
            "The Authorization header is empty.", hint=f"Send `Authorization: Bearer {wanted}`."
        )
    return token


def kind_of(token: str) -> TokenKind | None:
    """Tell the kind of a token of ours by its prefix; None: not one of ours."""
    return _KINDS.get(token[:4])


def wrong_kind(wanted: str) -> InvalidToken:
    return InvalidToken(
        "This is a token of another kind.",
        code="token_wrong_kind",
        hint=f"This call takes {wanted}.",
    )
