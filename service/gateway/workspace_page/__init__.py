"""The page about a workspace, for its user: its state, how long it stays awake, and what happened."""
