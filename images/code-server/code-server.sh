#!/bin/sh
exec /usr/local/bin/node /opt/code-server/node_modules/code-server "$@"
