"""Graph to layers of the machine's units."""
