"""Questions: what to compare, how it is carried out, and where its results lie."""
