"""Answers of `sojourn.adapters.django` where a session cannot be had, and cookies on responses."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from sojourn.errors import Overloaded, SojournError, StoreError
from sojourn.log import get_logger
from sojourn.people.sign_in import refusal

log = get_logger("sojourn.adapters.django")


def load_cookie(response: HttpResponse, header: str) -> None:
    """Put a Set-Cookie header where Django's test client looks for it. Django knows one cookie per name:
    one that was there before, for another place, is moved aside and sent all the same."""
    name = header.partition("=")[0]
    if name in response.cookies:
        aside = f"{name} {len(response.cookies)}"  # no cookie can be called so
        dict.__setitem__(response.cookies, aside, response.cookies.pop(name))
    response.cookies.load(header)


def unavailable(
    request: HttpRequest, fault: SojournError, instead_of: HttpResponse | None = None
) -> HttpResponse:
    say = log.error if isinstance(fault, StoreError | Overloaded) else log.warning
    say("sessions_unavailable", code=fault.code, error=fault.message, hint=fault.hint)
    status, headers, body = refusal(fault, request.headers.get("Accept", ""))
    response = HttpResponse(body, status=status, headers=dict(headers))
    if instead_of is not None:  # the handler closes what it sends, and so what that stands for
        response._resource_closers += instead_of._resource_closers  # noqa: SLF001  # there is no other way
    return response


__all__ = ["load_cookie", "unavailable"]
