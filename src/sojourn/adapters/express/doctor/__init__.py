"""What doctor looks at beside Express: connect-pg-simple's table, and what mends it."""
