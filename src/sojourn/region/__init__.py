"""A relay as it runs: the server of a region, which grants seats that an authority has allotted to it.

What may be granted until when is decided by `sojourn.relays`, which is pure. Here is the rest: `state.py`
keeps it on disk over restarts, `uplink.py` asks the authority, `gate.py` holds the store to it, `copies.py`
keeps the licenses, `holding.py` keeps these alike, and `region.py` does it all at each beat.
"""
