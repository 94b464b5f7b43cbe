"""The old name of `sojourn.service.request_session`, for applications that import from here."""

from sojourn.service.request_session import AdoptedCookie as AdoptedCookie
from sojourn.service.request_session import RawTokens as RawTokens
from sojourn.service.request_session import Request as Request
from sojourn.service.request_session import Rules as Rules
from sojourn.service.request_session import Visit as Visit
