"""The market's pages: files that any web space can serve."""
