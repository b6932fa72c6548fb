"""A policy as the control loop asks it: here, in a thread, or in a process of its own."""
