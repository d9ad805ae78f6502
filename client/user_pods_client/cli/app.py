"""The whole command line, for tools that read it: `__main__` builds only what a call needs."""

from user_pods_client.cli.commands import build

app = build()
