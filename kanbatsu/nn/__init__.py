"""Networks: layers, encoders and heads, as Equinox modules whose leaves are all arrays."""
