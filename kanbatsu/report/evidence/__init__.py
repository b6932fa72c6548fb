"""Pages about the studies that are kept in the repository, written from their data alone."""
