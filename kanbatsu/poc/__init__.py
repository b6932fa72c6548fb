"""A proof of concept: pilot, search, confirmation on fresh seeds, verdict."""
