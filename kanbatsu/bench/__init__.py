"""What sparsity gains on this machine: whole updates and single actions, dense against sparse."""
