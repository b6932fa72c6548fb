"""Time: the loop of decisions and updates, evaluation, checkpoints."""
