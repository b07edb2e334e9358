"""Holds: nothing new starts in a pool, in a category, of a job, or at all, until a time or until a release.

A held pool costs the claim nothing: a worker leaves the pool's queues out of its claim. The queued runs of a held job
or category become ``blocked``, so they are not in the index of the claim. A worker's turn does that before it claims,
so a run that was started a moment ago is not claimed either. When a hold ends, ``moving.free`` queues these runs again.

``conditions`` has the conditions, ``reading`` reads, ``placing`` writes holds, ``moving`` moves runs.
"""
