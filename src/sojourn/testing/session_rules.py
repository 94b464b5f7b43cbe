"""What a store machine does with sessions: see `machine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from sojourn.clock import DAY, HOUR, MINUTE, SECOND, ManualClock
from sojourn.device import Device
from sojourn.errors import SojournError
from sojourn.session import AtLimit, NewSession, Save, Session
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore
from sojourn.testing.builders import token_hash

MakeStore = Callable[[ManualClock], Store]

USERS = ("ann", "Ann", "bob", "bob ")
KNOWN_MAX = 25  # leases and tokens that rules pick from: the latest ones

indexes = st.integers(0, KNOWN_MAX - 1)
data = st.dictionaries(
    st.sampled_from("abc"), st.none() | st.integers() | st.text("é𝔘'", max_size=3)
)
places = st.lists(
    st.fixed_dictionaries(
        {
            "replaces": st.none() | st.none() | indexes,
            "ending": st.just([]) | st.lists(indexes, max_size=3),
            "limit": st.sampled_from([None, None, 1, 2, 3]),
            "at_limit": st.sampled_from(AtLimit),
            "impersonator": st.sampled_from([None, None, None, "root"]),
        }
    ),
    min_size=3,
    max_size=3,
)


class SessionRules(RuleBasedStateMachine):
    """Both sides, compared; and the rules that concern sessions."""

    make_store: ClassVar[MakeStore]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.model: Store = MemoryStore(self.clock)
        self.store = type(self).make_store(self.clock)
        self.tokens: list[tuple[str, str]] = []  # (token, session id), the latest first
        self.count = 0

    def teardown(self) -> None:
        self.store.close()

    def both(self, do: Callable[[Store], Any], *, ordered: bool = True) -> Any:
        """Ask both sides the same; they must answer the same."""
        expected, answer = _outcome(do, self.model), _outcome(do, self.store)
        if not ordered:
            expected, answer = sorted(expected, key=repr), sorted(answer, key=repr)
        same = self.comparable(answer) == self.comparable(expected)
        assert same, f"\nthe store: {answer}\nthe model: {expected}"
        return answer

    def comparable(self, answer: Any) -> Any:
        """Return what of an answer must be the model's."""
        return answer

    def new_id(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.count}"

    @rule(
        users=st.lists(st.sampled_from((*USERS, None)), min_size=1, max_size=3),
        content=data,
        lifetime=st.sampled_from([HOUR, 7 * DAY]),
        idle_timeout=st.sampled_from([MINUTE, DAY]),
        again=st.none() | indexes,
        taking=places,
    )
    def create(
        self,
        users: list[str | None],
        content: dict[str, Any],
        again: int | None,
        taking: list[dict[str, Any]],
        **times: Any,
    ) -> None:
        batch = []
        for number, user_id in enumerate(users):
            token, session_id = self.new_id("tok"), self.new_id("ses")
            place = self._place(**taking[number])
            batch.append(
                NewSession(
                    id=session_id,
                    token_hash=token_hash(token),
                    user_id=user_id,
                    data=content,
                    **place,
                    **times,
                )
            )
            self.tokens.insert(0, (token, session_id))
        if again is not None:
            token, session_id = self.tokens[again % len(self.tokens)]
            batch.append(NewSession(id=session_id, token_hash=token_hash("new"), user_id="ann"))
            batch.append(NewSession(id="new", token_hash=token_hash(token), user_id="ann"))
        self.tokens = self.tokens[:KNOWN_MAX]
        answers = self.both(lambda store: store.create(batch))
        self._check_limit(batch, answers)

    def _check_limit(self, batch: Sequence[NewSession], answers: Sequence[object]) -> None:
        """Whoever was let in last, under a limit, has no more sessions than that."""
        let_in = [
            new
            for new, answer in zip(batch, answers, strict=True)
            if isinstance(answer, Session) and new.impersonator is None
        ]
        for user_id in USERS:
            mine = [new for new in let_in if new.user_id == user_id]
            if mine and (limit := mine[-1].limit) is not None:
                live = self.store.of(user_id, limit=1_000)
                assert sum(session.impersonator is None for session in live) <= limit

    def _place(self, replaces: int | None, ending: list[int], **fields: Any) -> dict[str, Any]:
        return fields | {
            "replaces": None if replaces is None else self._session(replaces),
            "ending": tuple(self._session(known) for known in ending),
        }

    @rule(asked=st.lists(st.tuples(indexes, data, st.sampled_from(["", "a", "bc"])), max_size=3))
    def save(self, asked: Sequence[tuple[int, dict[str, Any], str]]) -> None:
        batch = [
            Save(id=self._session(known), set=content, unset=tuple(set(unset) - content.keys()))
            for known, content, unset in asked
        ]
        self.both(lambda store: store.save(batch))

    @rule(asked=st.lists(st.tuples(indexes, st.sampled_from([None, None, "a", "b"])), max_size=4))
    def touch(self, asked: list[tuple[int, str | None]]) -> None:
        ids = [self._session(known) for known, _ in asked]
        devices = {
            session_id: Device(name=name, ip=f"::{name}")
            for session_id, (_, name) in zip(ids, asked, strict=True)
            if name is not None
        }
        self.both(lambda store: store.touch(ids, devices))

    @rule(known=indexes, user_id=st.sampled_from(USERS), label=st.sampled_from([None, "x", "ß"]))
    def rename(self, known: int, user_id: str, label: str | None) -> None:
        session_id = self._session(known)
        self.both(lambda store: store.rename(session_id, user_id=user_id, label=label))

    @rule(
        known=indexes,
        grace=st.sampled_from([0, 0, 5 * SECOND]),
        level=st.sampled_from([None, None, 1, 2]),
        taken=st.none() | indexes,
    )
    def rotate(self, known: int, grace: int, level: int | None, taken: int | None) -> None:
        session_id = self._session(known)
        token = self.new_id("tok")
        if taken is not None and self.tokens:
            # A token that was rotated away may or may not be free again; a present one is not.
            session = self.tokens[taken % len(self.tokens)][1]
            token = next(name for name, owner in self.tokens if owner == session)
        self.both(
            lambda store: store.rotate(session_id, token_hash(token), grace=grace, level=level)
        )
        self.tokens = [(token, session_id), *self.tokens][:KNOWN_MAX]

    @rule(user_id=st.sampled_from((*USERS, *USERS, None)), number=st.integers(0, 2))
    def cut_off(self, user_id: str | None, number: int) -> None:
        at = self.both(
            lambda store: store.cut_off(user_id, reason=f"cut-{number}", actor="key:ops")
        )
        assert at >= self.clock.now()
        mine = [self.store.of(user) for user in ([user_id] if user_id else USERS)]
        assert not any(mine), "somebody outlived a cutoff"

    @rule(user_id=st.sampled_from((*USERS, None)), limit=st.integers(1, 5))
    def list_sessions(self, user_id: str | None, limit: int) -> None:
        page = self.both(lambda store: store.sessions(limit=limit, user_id=user_id))
        last = page[-1].id if page else "ses"
        self.both(lambda store: store.sessions(after=last, limit=limit, user_id=user_id))

    @rule(known=st.lists(indexes, max_size=3), keep=st.lists(indexes, max_size=1))
    def end(self, known: list[int], keep: list[int]) -> None:
        ids, kept = [self._session(x) for x in known], [self._session(x) for x in keep]
        self.both(
            lambda store: store.end(ids=ids, keep=kept, reason="tested", actor="user:ann"),
            ordered=False,
        )

    @rule(user_id=st.sampled_from(USERS), keep=st.lists(indexes, max_size=2))
    def end_all(self, user_id: str, keep: list[int]) -> None:
        kept = [self._session(known) for known in keep]
        self.both(lambda store: store.end(user_id=user_id, keep=kept), ordered=False)

    def sessions_are_equal(self) -> None:
        hashes = [token_hash(token) for token, _ in self.tokens]
        self.both(lambda store: store.load(hashes))

    def sessions_are_listed(self) -> None:
        user_id = USERS[self.count % len(USERS)]
        sessions = self.both(lambda store: store.of(user_id), ordered=False)
        starts = [session.created_at for session in self.store.of(user_id)]
        assert starts == sorted((s.created_at for s in sessions), reverse=True)

    def _session(self, known: int) -> str:
        unknown = not self.tokens or known == KNOWN_MAX - 1
        return "ses_unknown" if unknown else self.tokens[known % len(self.tokens)][1]


def _outcome(do: Callable[[Store], Any], store: Store) -> Any:
    """Answer, or the kind of fault."""
    try:
        return do(store)
    except SojournError as error:
        return type(error).__name__
