"""Networks of real operators whose tensors may have integer parameters, and their one lowering to integer graphs."""
