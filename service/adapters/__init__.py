"""The ports of the domain, each on its real part (one client library per module) and, in `memory`, without any."""
