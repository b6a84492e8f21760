"""The integer network and what it computes."""
