"""The edge: connections from outside, what each may cost, and which HTTP is let in. All ports stand on it."""
