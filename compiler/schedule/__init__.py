"""Steps to one synchronised list of instructions."""
