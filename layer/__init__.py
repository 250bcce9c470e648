"""The packages to deploy: the zips of the function and of our Lambda layer."""
