"""Benchmarks. Results are ratios to limits measured in the same run, so they do not depend on the machine."""
