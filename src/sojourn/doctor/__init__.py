"""Doctor: says what is wrong with sessions and seats, proves it, and mends it without losing anything."""
