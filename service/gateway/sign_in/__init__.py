"""The gateway's own domain, where users sign in at the identity provider."""
