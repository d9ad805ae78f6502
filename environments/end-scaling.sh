#!/bin/sh
# Removes the ScaledObjects of all users and waits until KEDA has let go of them. KEDA goes afterwards, with its kinds:
# objects that are left then could never be removed. Their releases and volumes stay.
set -eu
users=$1
kubectl -n "$users" delete scaledobjects.keda.sh --all --wait --timeout=5m
left=$(kubectl get scaledobjects.keda.sh,scaledjobs.keda.sh --all-namespaces --no-headers)
if [ -n "$left" ]; then
  echo "KEDA is not removed: others still use it. Remove these, or keep KEDA with keda.enabled: false." >&2
  echo "$left" >&2
  exit 1
fi
