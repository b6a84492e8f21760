"""The machine, described once: configuration, instructions, arithmetic, timing, registers, layout."""
