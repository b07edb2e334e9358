"""What a sequence may do, without a run of it: a drawing and a simulation."""
