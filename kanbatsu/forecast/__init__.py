"""What a study would take, from a few seconds of every arm."""
