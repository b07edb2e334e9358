"""Definitions from other schedulers."""
