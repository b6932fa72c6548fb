"""Answers: statistics, figures and the page, from the files of a study alone."""
