"""What goes wrong inside a network: dormant units, lost rank, exploding or vanishing norms."""
