"""The ports on Redis, by the `redis` client."""
