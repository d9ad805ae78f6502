"""The model: requests, promises, and what must therefore be true."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from faults.calls import Call, Operation, Rules, fault_of


@dataclass(frozen=True, kw_only=True)
class Times:
    """The service's times in seconds."""

    lease: float
    cooldown: float
    poll: float

    @property
    def kept(self) -> float:
        """A pod stays up for at least this long after an activity; KEDA's times are in whole seconds."""
        return self.lease - self.poll + self.cooldown - 1

    @property
    def asleep(self) -> float:
        """It sleeps at most this long after the last activity."""
        return self.lease + self.cooldown + self.poll + 2


@dataclass(frozen=True, slots=True)
class Seen:
    """State of a session's Deployment in the cluster from a given time."""

    at: float
    replicas: int
    ready: int


@dataclass
class Account:
    """One user, and the service's promises to them."""

    user: str
    uuid: str = ""
    """Empty until a create was answered."""
    is_wanted: list[float] = field(default_factory=list)
    """Start times of the accepted wakes and activity calls."""
    wake_owed: float | None = None
    """Start of an accepted wake, after which the pod must become ready."""
    sleep_owed: float | None = None
    sleep_request: float = -1e9
    """End of the last call of sleep, answered or not."""
    last_wish: float = -1e9
    """End of the last call that may have woken the session, answered or not."""
    delete_asked: bool = False
    delete_accepted: bool = False


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state at the end of a trial. Keys are session ids."""

    owners: Mapping[str, str]
    """Deployments, and the user that each belongs to."""
    releases: Mapping[str, str]
    """Helm releases, and the state of the newest revision."""
    keys: Mapping[str, Sequence[str]]
    """Redis keys that contain the id."""
    listed: Mapping[str, Mapping[str, tuple[str, str]]]
    """Replica -> id -> user and state of the record, from its list of sessions."""


class Ledger:
    """Records every call and every change in the cluster; `lost`, `wrong` and `bad` hold the violations."""

    def __init__(self, times: Times, rules: Rules | None = None) -> None:
        self.times = times
        self.rules = rules or Rules()
        self.accounts: dict[str, Account] = {}
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.bad: list[str] = []
        self.calls = 0
        self.late_zeros = 0
        """Pods ended by a late zero of KEDA, decided before the wake; the service restores them."""
        self._users: dict[str, str] = {}
        self._seen: dict[str, list[Seen]] = {}
        self._forgotten = -1e9
        """When Redis was emptied: earlier activity does not count, as documented."""
        self._notes: Mapping[Operation, Callable[[Account, Call], None]] = {
            Operation.CREATE: self._note_create,
            Operation.WAKE: self._note_beat,
            Operation.ACTIVITY: self._note_beat,
            Operation.SLEEP: self._note_sleep,
            Operation.DELETE: self._note_delete,
            Operation.STATUS: self._note_status,
            Operation.LIST: self._note_list,
        }

    def account(self, user: str) -> Account:
        return self.accounts.setdefault(user, Account(user))

    @property
    def sessions(self) -> list[Account]:
        """Accounts with a session, and without a requested delete."""
        return [a for a in self.accounts.values() if a.uuid and not a.delete_asked]

    # --- calls ---

    def asking(self, operation: Operation, user: str) -> None:
        """A call starts: it may take effect from now on."""
        account = self.account(user)
        if operation is Operation.DELETE:
            account.delete_asked = True
        elif operation is Operation.SLEEP:
            account.sleep_request = float("inf")
            account.wake_owed = None
        elif operation in (Operation.WAKE, Operation.ACTIVITY):
            account.last_wish = float("inf")
            account.sleep_owed = None

    def record(self, call: Call) -> None:
        """A call is over."""
        self.calls += 1
        account = self.account(call.user)
        fault = fault_of(call, self.rules, may_be_gone=account.delete_asked)
        if fault is None and call.operation is Operation.STATUS and call.accepted:
            fault = self._stale(call)
        if fault:
            self.bad.append(f"{call} ({fault})")
            if self.rules.victims and call.uuid not in self.rules.victims:
                self.wrong.append(f"{call}: affected by another session's fault ({fault})")
        self._note_wishes(account, call)
        note = self._notes.get(call.operation)
        if note is not None and call.accepted:
            note(account, call)

    def _note_wishes(self, account: Account, call: Call) -> None:
        if call.operation is Operation.SLEEP:
            account.sleep_request = call.ended
        elif call.operation in (Operation.WAKE, Operation.ACTIVITY):
            account.last_wish = call.ended

    def _note_create(self, account: Account, call: Call) -> None:
        uuid = str(call.body["uuid"])
        if account.uuid and account.uuid != uuid:
            self.wrong.append(f"{account.user} got {account.uuid}, and then another session {uuid}")
        owner = self._users.setdefault(uuid, account.user)
        if owner != account.user:
            self.wrong.append(f"{uuid} was given to {owner} and to {account.user}")
        account.uuid = uuid

    def _note_beat(self, account: Account, call: Call) -> None:
        account.is_wanted.append(call.began)
        if call.operation is Operation.WAKE and max(account.sleep_request, self._forgotten) < call.began:
            account.wake_owed = call.began

    def _note_sleep(self, account: Account, call: Call) -> None:
        if account.last_wish < call.began:
            account.sleep_owed = call.began

    def _note_delete(self, account: Account, _call: Call) -> None:
        account.delete_accepted = True

    def _note_status(self, account: Account, call: Call) -> None:
        if call.body["session"].get("user_id") != account.user or call.body["uuid"] != account.uuid:
            self.wrong.append(f"{call}: answers with another's data, {call.body['uuid']}")

    def _note_list(self, account: Account, call: Call) -> None:
        found = [(s["uuid"], s["session"]["user_id"]) for s in call.body["sessions"]]
        if any(entry != (account.uuid, account.user) for entry in found) or len(found) > 1:
            self.wrong.append(f"{call}: lists {found} for {account.user}")
        if account.uuid and not found and not account.delete_asked:
            self.bad.append(f"{call}: the list lacks {account.uuid}")

    def _stale(self, call: Call) -> str | None:
        """A status that is stale compared with the cluster and does not say so."""
        history = self._seen.get(call.uuid)
        if not history or call.body.get("behind_seconds") is not None:
            return None
        last = history[-1]
        if call.began - last.at < self.rules.stale or call.body["replicas"] == last.replicas:
            return None
        return f"shows {call.body['replicas']} replicas, there are {last.replicas} for {call.began - last.at:.0f} s"

    # --- what the cluster shows ---

    def saw(self, uuid: str, seen: Seen) -> None:
        """A Deployment changed, or was found at the start."""
        history = self._seen.setdefault(uuid, [])
        before = history[-1] if history else Seen(seen.at, 0, 0)
        history.append(seen)
        if before.replicas and not seen.replicas and uuid in self._users:
            self._judge_fall(self.accounts[self._users[uuid]], seen.at)

    def _judge_fall(self, account: Account, at: float) -> None:
        """False sleep: the pod ended although its user had been active for longer than KEDA takes to decide."""
        if account.delete_asked or at < account.sleep_request + self.times.kept:
            return
        run = self._run(account, at)
        if run and at - run[-1] < self.times.kept:
            if run[-1] - run[0] > self.times.kept:
                self.wrong.append(f"{account.uuid} fell asleep {at - run[-1]:.1f} s after an activity")
            else:
                self.late_zeros += 1

    def _run(self, account: Account, at: float) -> list[float]:
        """Accepted activity up to then, without a gap in which the queue may have expired."""
        run: list[float] = []
        for heartbeat in reversed([heartbeat for heartbeat in account.is_wanted if self._forgotten < heartbeat <= at]):
            if run and run[0] - heartbeat > self.times.lease - self.times.poll:
                break
            run.insert(0, heartbeat)
        return run

    def emptied(self, at: float) -> None:
        """Redis has lost everything, including pending wakes."""
        self._forgotten = at
        for account in self.accounts.values():
            account.wake_owed = None

    def now(self, uuid: str) -> Seen | None:
        history = self._seen.get(uuid)
        return history[-1] if history else None

    def was(self, uuid: str, condition: Callable[[Seen], bool], since: float) -> bool:
        """Whether the condition held at some moment since then."""
        history = self._seen.get(uuid, [])
        ends = [*(seen.at for seen in history[1:]), float("inf")]
        return any(condition(seen) and end > since for seen, end in zip(history, ends, strict=True))

    # --- the end ---

    def owed(self) -> list[str]:
        """Accepted wakes and sleeps that have not taken effect."""
        found = []
        for account in self.sessions:
            wake, sleep = account.wake_owed, account.sleep_owed
            if wake is not None and not self.was(account.uuid, lambda seen: seen.ready > 0, wake + _SETTLED):
                found.append(f"{account.uuid}: its wake was accepted, its pod never got ready")
            if sleep is not None and not self.was(account.uuid, lambda seen: seen.replicas == 0, sleep):
                found.append(f"{account.uuid}: its sleep was accepted, its pod stayed")
        return found

    def awake(self) -> list[str]:
        """Sessions with a wanted pod in the cluster."""
        return [a.uuid for a in self.sessions if (seen := self.now(a.uuid)) and seen.replicas]

    def close(self, snapshot: Snapshot) -> None:
        """After a long time without calls, every pod must sleep and all work must be done."""
        self.lost += self.owed()
        self.wrong += [f"{uuid} is awake without demand" for uuid in self.awake()]
        self.audit(snapshot)

    def audit(self, snapshot: Snapshot) -> None:
        """Compare what exists with what was promised."""
        for account in self.accounts.values():
            if account.delete_asked:
                self._audit_deleted(account, snapshot)
            elif account.uuid:
                self.lost += _missing(account, snapshot)
        self._audit_owners(snapshot)

    def unfinished(self, snapshot: Snapshot) -> list[str]:
        """Unfinished deletes; the service finishes them in the background."""
        asked = [account for account in self.accounts.values() if account.delete_asked]
        return [account.uuid for account in asked if self._remains(account, snapshot)]

    def _audit_deleted(self, account: Account, snapshot: Snapshot) -> None:
        if left := self._remains(account, snapshot):
            self.lost.append(f"{account.uuid}: its delete left {', '.join(left)}")

    def _remains(self, account: Account, snapshot: Snapshot) -> Sequence[str]:
        """What a delete left. Empty if it was refused before it started and the session is intact."""
        if not account.delete_accepted and not _missing(account, snapshot):
            return ()
        return _left(account.uuid, snapshot)

    def _audit_owners(self, snapshot: Snapshot) -> None:
        have: dict[str, list[str]] = {}
        for uuid, owner in snapshot.owners.items():
            if owner in self.accounts:
                have.setdefault(owner, []).append(uuid)
        for owner, uuids in have.items():
            if len(uuids) > 1:
                self.wrong.append(f"{owner} has several sessions: {', '.join(sorted(uuids))}")
            unreleased = [uuid for uuid in uuids if uuid not in snapshot.releases]
            if unreleased:
                self.wrong.append(f"{owner} has a Deployment without release: {', '.join(unreleased)}")


_SETTLED = 2.0
"""Seconds after a wake until a pod counts, because an earlier pod may still be terminating."""


def _missing(account: Account, snapshot: Snapshot) -> Iterable[str]:
    """The missing parts of a session that was created and not deleted."""
    uuid, found = account.uuid, []
    if snapshot.owners.get(uuid) != account.user:
        found.append(f"{uuid}: its Deployment belongs to {snapshot.owners.get(uuid)}, not to {account.user}")
    if snapshot.releases.get(uuid) != "deployed":
        found.append(f"{uuid}: its release is {snapshot.releases.get(uuid)}")
    for replica, sessions in snapshot.listed.items():
        if sessions.get(uuid) != (account.user, "created"):
            found.append(f"{uuid}: {replica} lists {sessions.get(uuid)} for {account.user}")
    return found


def _left(uuid: str, snapshot: Snapshot) -> list[str]:
    left = [
        f"a {name}"
        for name, found in (("Deployment", snapshot.owners), ("release", snapshot.releases))
        if uuid in found
    ]
    left += snapshot.keys.get(uuid, ())
    return left + [f"an entry in the list of {name}" for name, found in snapshot.listed.items() if uuid in found]
