"""The rules that a single instruction must keep on a machine: the checker and the simulator refuse by them.

What two instructions must keep is in `compiler.check.check`. Every rule compares columns of the decoded program, so
that all instructions are checked at once.
"""
