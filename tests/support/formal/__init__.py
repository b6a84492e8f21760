"""Hardware as SMT terms, and proofs about it."""
