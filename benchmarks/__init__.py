"""Measurements of what the documentation claims: one script per claim."""
