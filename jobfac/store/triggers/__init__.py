"""Starts that no clock causes."""
