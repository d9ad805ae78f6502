"""Trials under faults: two replicas of the service, real operations, and one part after another that fails.

`make faults` runs all of them and writes the table of docs/explanation/reliability.md. Nothing of the service is
imported here: what counts is what a caller gets to see and what the cluster holds.
"""
