"""One folder per library: pruning and probes inside its own trainers, imported when asked for."""
