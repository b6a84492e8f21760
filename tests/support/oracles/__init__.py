"""Outside runtimes, and models made for them."""
