"""Requests and pages that wait for a pod to wake."""
