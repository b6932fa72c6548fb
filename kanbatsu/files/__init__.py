"""The files on disk: records as plain tables, the files of a study and of its runs."""
