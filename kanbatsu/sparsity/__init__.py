"""Which weights exist: how many per layer, which ones, how they are stored, and how to ask."""
