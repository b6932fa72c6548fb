"""Time: the loop of interactions and updates, evaluation, checkpoints."""
