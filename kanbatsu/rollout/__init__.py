"""From a verdict to service by stages: guard, shadow, canary, and a record of every change."""
