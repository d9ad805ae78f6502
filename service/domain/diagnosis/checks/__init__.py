"""One module per part of the system."""
