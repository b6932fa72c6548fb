"""The watch over drift: what is watched, its thresholds from held-out logs, and its alarms."""
