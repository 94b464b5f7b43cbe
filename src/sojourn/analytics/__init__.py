"""How seats were used: what the stream of events tells of the past, exactly. Pure: no I/O, no clock."""
