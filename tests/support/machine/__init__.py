"""Naive models of the machine; random instructions, programs and timing."""
