"""Seats in regions: what an authority and its relays may decide while they cannot hear each other.

An authority owns licenses. A relay serves a region: of each pool it holds an allotment, a number of seats
that it may grant by itself until a deadline, and that the authority counts as taken for longer than that.
So neither a cut nor a crash can sell a seat twice, and there is nothing to reconcile.

`sojourn.allotment` is the authority's side, which every store carries out, and `share.py` the relay's,
both pure: states go in and come out, and the model in `tests/relays` plays every order of messages, losses
and crashes against them. `elapsed.py` says how long a deadline may be trusted, over restarts of the process
and of the machine.
"""
