"""What Django holds each of its session stores to, for ours: copied into its `sessions_tests`."""

from django.test import TestCase
from sessions_tests.tests import SessionTestsMixin  # type: ignore[import-not-found]  # where it is copied to

from sojourn.adapters.django import SessionStore


class SojournSessionTests(SessionTestsMixin, TestCase):  # type: ignore[misc]  # Django ships no types
    backend = SessionStore
