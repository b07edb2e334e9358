"""The parts of a job's definition that govern its execution."""
