"""What the worker's loop decides from: its inbox, agenda, phases and share of the queue."""
