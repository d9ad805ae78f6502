"""The companion: a script in the workspace's own pages that reports input, warns before a sleep, and wakes after it."""
