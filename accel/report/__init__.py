"""Facts about networks, programs and runs, for people to read."""
