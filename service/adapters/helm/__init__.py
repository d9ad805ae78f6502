"""The Releases port, built on pyhelm3."""
