"""Where runs go: this machine, Ray or Slurm; who works on them, and how far they are."""
