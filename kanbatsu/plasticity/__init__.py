"""The supervised bench of plasticity: a stream of tasks, alike in their inputs, with new labels."""
