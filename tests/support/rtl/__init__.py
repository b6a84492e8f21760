"""Benches and programs of the RTL tests."""
