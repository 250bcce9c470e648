"""Deploying a stage: its parameters and its secret, and the check afterwards. The Makefile calls it."""
