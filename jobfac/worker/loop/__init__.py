"""The parts of the worker's loop: inbox, agenda, phases, pulse and fair share."""
