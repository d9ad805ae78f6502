# What `helm test` runs: wakes the pod through its queue, as a visitor does, and waits until it answers at its Service.
# Its image needs a shell, date, sleep, timeout, wget, and redis-cli, or nc if Redis does not use TLS.
# The password stays in the environment and in pipes: every printf is the shell's own, so no argv has it.
set -uf
LC_ALL=C                # lengths are bytes
IFS=$(printf ' \n\r\t') # print what Redis answers in one line
REDISCLI_AUTH=${REDISCLI_AUTH-}
host=${REDIS%:*} port=${REDIS##*:}
began=$(date +%s)

now() { echo $(($(date +%s) - began)); }
say() { printf '%3d s  %s\n' "$(now)" "$*"; }
fail() {
  say "FAILED: $1"
  shift
  printf '       %s\n' "$@"
  exit 1
}
lacks() { fail "the image of this test lacks $1." "Set tests.image to one that has it."; }

# Pushes a token that expires, so that nothing needs to consume it. Keeps a longer expiry, or a queue without one.
push_script="local left = redis.call('PTTL', KEYS[1])
redis.call('RPUSH', KEYS[1], 'helm test')
if left ~= -1 and left < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 'queue length ' .. redis.call('LLEN', KEYS[1])"

if command -v redis-cli >/dev/null; then
  push() {
    set -- -h "$host" -p "$port" -n "$REDIS_DATABASE"
    [ -z "$REDIS_USERNAME" ] || set -- "$@" --user "$REDIS_USERNAME"
    [ -z "$REDIS_TLS" ] || set -- "$@" --tls --sni "$host"
    [ -z "$REDIS_INSECURE" ] || set -- "$@" --insecure
    timeout 5 redis-cli "$@" EVAL "$push_script" 1 "$QUEUE" "$LEASE"
  }
elif [ -n "$REDIS_TLS" ]; then
  lacks "redis-cli, which it needs for TLS to Redis"
elif ! command -v nc >/dev/null; then
  lacks "redis-cli and nc"
else
  command_of() {
    printf '*%d\r\n' $#
    for part; do printf '$%d\r\n%s\r\n' ${#part} "$part"; done
  }
  push() {
    {
      [ -z "$REDISCLI_AUTH" ] || command_of AUTH ${REDIS_USERNAME:+"$REDIS_USERNAME"} "$REDISCLI_AUTH"
      command_of SELECT "$REDIS_DATABASE"
      command_of EVAL "$push_script" 1 "$QUEUE" "$LEASE"
      command_of QUIT
    } | timeout 5 nc "$host" "$port"
  }
fi

beat() {
  for attempt in 1 2 3; do
    answer=$(push 2>&1)
    # Another program may answer there and repeat what it was sent.
    [ -z "$REDISCLI_AUTH" ] || answer=${answer%%"$REDISCLI_AUTH"*}
    case $answer in *'queue length '[0-9]*) return ;; esac
    say "push failed, attempt $attempt: $REDIS:" ${answer:-no answer}
    [ "$attempt" = 3 ] || sleep 1
  done
  case $answer in
  *NOPERM*)
    fail "This Redis user may not push; KEDA's user only needs to read." \
      "Set another one for the test: tests.redis.username and tests.redis.passwordSecret."
    ;;
  *NOAUTH* | *WRONGPASS* | *'invalid password'* | *'without any password'*)
    fail "Redis rejects the user or password." \
      "See redis.username and redis.passwordSecret, which tests.redis.username and tests.redis.passwordSecret override."
    ;;
  esac
  fail "Redis at $REDIS accepts no push from this pod." \
    "Can a pod in this namespace reach redis.address (if not, set tests.redis.address)? Check redis.tls and every NetworkPolicy."
}

# Whether the workspace answers, even with a redirect or an error; sets `heard` to the result.
ask() {
  heard=$(timeout 3 wget -q -S -O /dev/null "http://$WORKSPACE/" 2>&1)
  status=${heard#*HTTP/*[0-9] }
  status=${status%%[!0-9]*}
  case $heard in
  *HTTP/*) heard="HTTP status $status" ;;
  *wget:*) heard=${heard##*wget: } ;;
  *) heard="no answer within 3 s" ;;
  esac
  case $status in [1-4]??) return 0 ;; *) return 1 ;; esac
}

command -v wget >/dev/null || lacks wget
say "requesting http://$WORKSPACE/; $QUEUE at $REDIS wakes it"
if ask; then
  say "$heard: it is awake already, so this run does not show that it can be woken"
fi
beat
due=$(($(now) + BEAT)) reported=
say "pushed, with an expiry of $LEASE ms; again every $BEAT s"
until ask; do
  [ "$heard" = "$reported" ] || say "not yet: $heard"
  reported=$heard
  [ "$(now)" -lt "$TIMEOUT" ] || break
  sleep 1
  if [ "$(now)" -ge "$due" ]; then
    beat
    due=$(($(now) + BEAT))
  fi
done
case $heard in
'HTTP status '[1-4]*)
  say "PASSED: $heard"
  exit
  ;;
*'bad address'*)
  fail "the name $WORKSPACE cannot be resolved." "If the cluster has no DNS, set tests.serviceLinks=true."
  ;;
esac
fail "no answer within $TIMEOUT s, although the queue was kept filled; last result: $heard" \
  "Find out why, or allow more time with tests.timeout:" \
  "kubectl -n $NAMESPACE describe pods -l uuid=$UUID: why the pod does not start. Without a pod, nothing woke it" \
  "kubectl -n $NAMESPACE describe scaledobject user-$UUID-scaler: Ready must be True. With the annotation" \
  "autoscaling.keda.sh/paused, only the session service can wake it, so check that it runs."
