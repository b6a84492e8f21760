"""Values of instructions by vectorised kernels."""
