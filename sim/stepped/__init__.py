"""Every register of array and depthwise engine in every cycle."""
