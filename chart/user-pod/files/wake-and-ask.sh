# What `helm test` runs: wakes the pod through its queue, as a visitor does, and waits until it answers at its Service.
# It needs of its image: a shell, date, sleep, timeout, wget, and redis-cli, or nc where Redis speaks no TLS.
# The password stays in the environment and in pipes: every printf is the shell's own, so no argv has it.
set -uf
LC_ALL=C                # lengths are bytes
IFS=$(printf ' \n\r\t') # what Redis answers is told in one line
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
lacks() { fail "the image of this test lacks $1." "Give it one that has it: tests.image."; }

# Pushes a token that expires, so that nobody has to take it out. A longer lease stays, and so does a queue without one.
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
  lacks "redis-cli, without which it cannot speak TLS to Redis"
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
    # Whatever it is that answers there, it may repeat what it was sent.
    [ -z "$REDISCLI_AUTH" ] || answer=${answer%%"$REDISCLI_AUTH"*}
    case $answer in *'queue length '[0-9]*) return ;; esac
    say "no push, try $attempt: $REDIS:" ${answer:-no answer}
    [ "$attempt" = 3 ] || sleep 1
  done
  case $answer in
  *NOPERM*)
    fail "Redis does not let this user push; KEDA's own needs only to read." \
      "Give the test another one: tests.redis.username and tests.redis.passwordSecret."
    ;;
  *NOAUTH* | *WRONGPASS* | *'invalid password'* | *'without any password'*)
    fail "Redis wants another user or password." \
      "See redis.username and redis.passwordSecret, before which tests.redis.username and tests.redis.passwordSecret count."
    ;;
  esac
  fail "Redis at $REDIS takes no push from this pod." \
    "Does redis.address lead there from a pod of this namespace (else tests.redis.address), by redis.tls, through every NetworkPolicy?"
}

# Whether the workspace answers, be it by a redirect or a refusal; `heard` says what came.
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
say "asking http://$WORKSPACE/, which $QUEUE at $REDIS is to wake"
if ask; then
  say "$heard: it is awake already, so this run does not show that it can be woken"
fi
beat
due=$(($(now) + BEAT)) told=
say "pushed, with an expiry of $LEASE ms; again every $BEAT s"
until ask; do
  [ "$heard" = "$told" ] || say "not yet: $heard"
  told=$heard
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
  fail "the name $WORKSPACE is not found." "Where the cluster has no DNS: tests.serviceLinks=true."
  ;;
esac
fail "no answer within $TIMEOUT s, though the queue was kept filled; the last: $heard" \
  "Look why, or allow more time by tests.timeout:" \
  "kubectl -n $NAMESPACE describe pods -l uuid=$UUID: it tells why one does not start; no pod: nobody woke it" \
  "kubectl -n $NAMESPACE describe scaledobject user-$UUID-scaler: Ready must be True. With the annotation" \
  "autoscaling.keda.sh/paused the session service has to be up, for it is what wakes then."
