"""The old name of `sojourn.people.calls`, for applications that import from here."""

from sojourn.people.calls import BASE as BASE
from sojourn.people.calls import People as People
from sojourn.people.calls import PersonRequest as PersonRequest
from sojourn.people.calls import asked as asked
