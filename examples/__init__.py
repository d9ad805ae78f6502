"""Programs to start from; the tutorials explain them."""
