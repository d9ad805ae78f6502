"""One suite per port, run on the real adapter and on the one in memory."""
