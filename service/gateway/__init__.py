"""The reverse proxy in front of the workspaces: it wakes on a visit, and measures who is really there."""
