"""Remedies: what may change weights, moments and masks in training, beside the losses."""
