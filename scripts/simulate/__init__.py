"""A fleet on one SQL Server, simulated: the real decisions of workers under a clock of discrete events."""
