"""The edge: limits incoming connections, and rejects invalid HTTP. All ports use it."""
