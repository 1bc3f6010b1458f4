"""Stock levels, locations, allocations, reservations and their expiry."""
