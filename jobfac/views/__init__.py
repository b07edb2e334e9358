"""Typed, read-only views of what is stored."""
