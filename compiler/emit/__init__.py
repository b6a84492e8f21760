"""Plans to steps and their instructions."""
