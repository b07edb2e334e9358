"""Other queues at the same work as jobfac. Each module but ``__main__`` and ``server`` runs in the venv of the peers.

A module of a peer has ``prepare(target)``, ``submitting(target)``, a context whose value submits one run durably, and
``work(target, execute)``, which executes runs, eight at once, until the process is killed.
"""
