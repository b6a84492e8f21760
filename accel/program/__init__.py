"""What the compiler makes: a program for one machine, as one file."""
