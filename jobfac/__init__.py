"""jobfac, the background job factory."""
