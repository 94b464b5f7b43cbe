"""Moving in: reading the sessions that a site has today, in the words of those who wrote them."""
