"""Executions: from a claimed run and its definition to a program, and from its end to an outcome."""
