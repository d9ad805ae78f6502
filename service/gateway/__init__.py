"""The reverse proxy in front of the workspaces: it wakes them on a visit, and detects activity."""
