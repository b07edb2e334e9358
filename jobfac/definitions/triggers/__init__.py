"""Starts that no clock causes: after another job has ended, or when a file arrives."""

from jobfac.definitions.triggers.after import After, Upstream

__all__ = ["After", "Upstream"]
