"""HTTP's words: what goes over the wire, whoever serves it. No framework is known here."""
