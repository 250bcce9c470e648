"""What is deployed: the function's zip and the zip of our Lambda layer."""
