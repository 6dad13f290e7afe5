"""Importing this registers a body "cuda" with every op."""
