"""The rules that a single instruction must keep on a machine: the checker and the simulator refuse by them.

Rules of two instructions are in `compiler.check.check`. Every rule compares columns of the decoded program, so
that all instructions are checked at once.
"""
