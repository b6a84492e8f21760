"""C99 files of a network: arrays in headers, and a plain reference of the layers."""
