"""Mistakes that the protocol could be built with. Each must be found by the model's walks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from sojourn import allotment
from sojourn.allotment import Allotment, Authority, Shares
from sojourn.relays import share
from sojourn.relays.messages import AllotmentGrant, AllotmentWish, RelayAnswer, RelayBeat
from sojourn.relays.share import Relay, Share

Patch = Callable[[Any], None]

_learn, _give, _notice, _take = allotment._learn, allotment._give, allotment._notice, share._take
_hear, _listen = allotment.hear, share.listen


def lost_answer_frees(monkeypatch: Any) -> None:
    """What a relay was given in an answer that it has not heard is given to another."""

    def learn(pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
        mine = pool.allotments.get(relay)
        if mine is not None and wish.fence < mine.fence:
            heard = Allotment(wish.seats, mine.fence, now + pool.ttl)
            return replace(pool, allotments={**pool.allotments, relay: heard})
        return _learn(pool, relay, wish, now)

    monkeypatch.setattr(allotment, "_learn", learn)


def past_the_deadline(monkeypatch: Any) -> None:
    """A relay goes on granting when its deadline is over."""
    monkeypatch.setattr(share, "expire", lambda relay, now: relay)
    monkeypatch.setattr(share, "may_grant", lambda mine, now, *, stop: mine.held < mine.seats)


def counted_before_heard(monkeypatch: Any) -> None:
    """An authority that asks for seats counts them as given back."""

    def hear(authority: Authority, beat: RelayBeat, now: int) -> tuple[Authority, RelayAnswer]:
        authority, answer = _hear(authority, beat, now)
        pools = dict(authority.pools)
        for grant in answer.grants:
            pool = pools[grant.pool_id]
            mine = pool.allotments[beat.relay]
            if grant.keep is not None:
                less = replace(mine, seats=grant.keep)
                pool = replace(pool, allotments={**pool.allotments, beat.relay: less})
            pools[grant.pool_id] = pool
        return replace(authority, pools=pools), answer

    monkeypatch.setattr(allotment, "hear", hear)


def restored_without_doubt(monkeypatch: Any) -> None:
    """An authority that was put back gives what it takes to be free."""
    monkeypatch.setattr(allotment, "restored", lambda authority, now, *, epoch=None: authority)


def heard_by_an_old_beat(monkeypatch: Any) -> None:
    """What a relay said before it knew of the new epoch counts as its last word."""

    def notice(authority: Authority, beat: RelayBeat, now: int) -> Authority:
        authority = _notice(authority, beat, now)
        heard = replace(authority.relays[beat.relay], epoch=authority.epoch)
        return replace(authority, relays={**authority.relays, beat.relay: heard})

    monkeypatch.setattr(allotment, "_notice", notice)


def old_epoch_is_believed(monkeypatch: Any) -> None:
    """A relay takes over what was answered before the restore, though it has heard of the new epoch."""

    def listen(relay: Relay, answer: RelayAnswer, now: int, *, margin: int) -> Relay:
        newest = max(relay.epoch, answer.epoch)
        return _listen(relay, replace(answer, epoch=newest), now, margin=margin)

    monkeypatch.setattr(share, "listen", listen)


def answer_replayed(monkeypatch: Any) -> None:
    """An old answer gives back what a relay has given up since."""

    def take(mine: Share, grant: AllotmentGrant, deadline: int) -> Share:
        seats = grant.seats if grant.fence == mine.fence else mine.seats
        return _take(replace(mine, seats=seats), grant, deadline)

    monkeypatch.setattr(share, "_take", take)


def from_the_arrival(monkeypatch: Any) -> None:
    """A deadline is counted from when the answer came."""

    def listen(relay: Relay, answer: RelayAnswer, now: int, *, margin: int) -> Relay:
        sent = dict.fromkeys(relay.sent, now)
        return _listen(replace(relay, sent=sent), answer, now, margin=margin)

    monkeypatch.setattr(share, "listen", listen)


def without_margin(monkeypatch: Any) -> None:
    """A relay's clock is taken to go as its authority's does."""
    monkeypatch.setattr(share, "usable", lambda ttl, *, margin: ttl)


def fence_used_again(monkeypatch: Any) -> None:
    """A larger number is given under the fence of the smaller one."""

    def give(pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
        mine = pool.allotments.get(relay)
        given = _give(pool, relay, wish, now)
        if mine is None or given is pool:
            return given
        same = replace(given.allotments[relay], fence=mine.fence)
        return allotment._put(pool, relay, same)

    monkeypatch.setattr(allotment, "_give", give)


def return_is_lost(monkeypatch: Any) -> None:
    """What a relay gives back is never free again."""

    def learn(pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
        mine = pool.allotments.get(relay)
        if mine is not None and wish.fence == mine.fence:
            wish = replace(wish, seats=mine.seats)
        return _learn(pool, relay, wish, now)

    monkeypatch.setattr(allotment, "_learn", learn)


def over_too_soon(monkeypatch: Any) -> None:
    """An authority takes back what was given before the relay has stopped."""

    def expire(pool: Shares, now: int) -> Shares:
        living = {k: v for k, v in pool.allotments.items() if now < v.expires_at - 2}
        return replace(pool, allotments=living)

    monkeypatch.setattr(allotment, "expire", expire)


PLANTED: tuple[Patch, ...] = (
    lost_answer_frees,
    past_the_deadline,
    counted_before_heard,
    restored_without_doubt,
    heard_by_an_old_beat,
    answer_replayed,
    from_the_arrival,
    without_margin,
    fence_used_again,
    return_is_lost,
    over_too_soon,
)
