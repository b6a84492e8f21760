"""Proofs that a program keeps every contract of the machine."""
