"""Where every tensor lives and how every layer is tiled."""
