"""What anybody may ask of jobfac: one function for each operation."""
