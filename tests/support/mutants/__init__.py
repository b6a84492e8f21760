"""Seeded faults."""
