"""The compiler's result: a program for one machine, as one file."""
