"""An OpenID Connect provider, over HTTP."""
