"""Fault trials: two replicas of the service under real operations, while one part after another fails.

`make faults` runs all of them and writes the table of docs/explanation/reliability.md. Nothing of the service is
imported here: only what callers see and what the cluster holds counts.
"""
