#!/bin/sh
# As in the public image: adapt the user to the one that the container runs as, then start.
set -eu
eval "$(fixuid -q)"
exec dumb-init /usr/bin/code-server "$@"
