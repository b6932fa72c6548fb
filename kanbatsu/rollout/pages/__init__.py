"""The page of a rollout: what lies in its folder, as one HTML file, or live."""
