"""A trained agent at work: its episodes, what its networks do meanwhile, and films of it."""
