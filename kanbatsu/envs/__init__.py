"""Where data come from: simulators behind one small interface."""
