"""The codes of refusals: as HTTP statuses, and as types of problems."""

from __future__ import annotations

STATUS: dict[str, int] = {
    "invalid_request": 400,
    "invalid_policy": 400,
    "invalid_schedule": 400,
    "relay_protocol": 400,
    "token_malformed": 401,
    "token_wrong_kind": 401,
    "token_forged": 401,
    "token_expired": 401,
    "unauthenticated": 401,
    "session_absent": 401,
    "session_idle": 401,
    "session_expired": 401,
    "session_ended": 401,
    "session_forged": 401,
    "forbidden": 403,
    "license_suspended": 403,
    "license_expired": 403,
    "license_not_yet_valid": 403,
    "session_gone": 403,
    "reauth_required": 403,
    "cross_origin": 403,
    "license_of_authority": 403,
    "not_dev": 403,
    "not_found": 404,
    "license_unknown": 404,
    "feature_unknown": 404,
    "lease_unknown": 404,
    "key_unknown": 404,
    "relay_unknown": 404,
    "session_unknown": 404,
    "webhook_unknown": 404,
    "plan_unknown": 404,
    "check_unknown": 404,
    "delivery_unknown": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "conflict": 409,
    "relay_cloned": 409,
    "relay_late": 409,
    "relay_limit": 409,
    "relay_clock": 409,
    "allotment_foreign": 409,
    "relay_seats": 409,
    "not_authority": 409,
    "repair_busy": 409,
    "seat_limit": 409,
    "session_limit": 409,
    "lease_lost": 410,
    "lease_ended": 410,
    "body_too_large": 413,
    "data_too_large": 413,
    "unsupported_media_type": 415,
    "idempotency_key_reused": 422,
    "too_many_requests": 429,
    "headers_too_large": 431,
    "internal": 500,
    "store_broken": 503,
    "store_unavailable": 503,
    "overloaded": 503,
    "shutting_down": 503,
    "issuer_unavailable": 503,
    "authority_unreachable": 503,
    "region_recovering": 503,
}
"""Every code this API can answer, and its HTTP status."""


def problem_type(code: str) -> str:
    """Return the type of a problem (RFC 9457, 3.1.1): a full path, at which a server says what to do.

    Applications that answer in their own process use the same name, and serve no such page.
    """
    return f"/problems/{code}"
