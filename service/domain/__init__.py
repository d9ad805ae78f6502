"""What a session is and how it lives: standard library only, no client library, no HTTP."""
