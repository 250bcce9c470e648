"""The market's pages: the files that are published, and where they are put."""
