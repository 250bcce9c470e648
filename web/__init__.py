"""The market page: the files that are published, and where they are put."""
