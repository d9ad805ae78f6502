"""Objects of the users' namespace that nobody owns, that somebody has edited, or that do not come or go."""

from collections.abc import Sequence
from datetime import timedelta

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.repairs import Repairs
from service.domain.diagnosis.survey import Survey
from service.domain.errors import SessionUnreadable
from service.domain.hand_edits import undo_command
from service.domain.names import SessionId, release_name
from service.domain.ports import Cluster, Store, WorkloadCache
from service.domain.workload import Workload

_FIELDS = 3
"""Changed fields that a finding names."""


class OrphanObjects(Check):
    """What the cluster has of sessions of which Redis knows nothing."""

    name = "orphans"
    fine = "Every release and Deployment belongs to a session."

    def __init__(
        self, *, cluster: Cluster, cache: WorkloadCache, store: Store, repairs: Repairs, namespace: str
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._store = store
        self._repairs = repairs
        self._namespace = namespace

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        orphans = await self._orphans(survey)
        kept = [each for each in orphans if each.released]
        found = [await self._of(each) for each in orphans if not each.released and not _is_foreign(each)]
        if kept:
            found.append(
                self.finding(
                    "volumes",
                    Severity.OK,
                    f"{len(kept)} volumes of deleted sessions are kept.",
                    meaning="Their users get them back with their next session. They take room until then.",
                    next_step=f"`kubectl -n {self._namespace} get pvc` lists volumes; delete those that nobody needs.",
                )
            )
        return found

    async def mend(self, finding: Finding, _survey: Survey) -> str:
        uuid = SessionId(finding.subject)
        workload = (await self._cluster.read([uuid]))[uuid]
        await self._repairs.adopt(uuid, workload.user_id or "")
        return "the session has its record again"

    async def _orphans(self, survey: Survey) -> Sequence[Workload]:
        """From the cluster itself: the cache may show a session a moment longer than Redis knows it."""
        known = await survey.known()
        suspects = [uuid for uuid in self._cache.uuids() if uuid not in known]
        found: list[Workload] = []
        for start in range(0, len(suspects), 100):
            found += (await self._cluster.read(suspects[start : start + 100])).values()
        again = {record.uuid for record in await self._store.records(suspects)}
        left = [each for each in found if each.uuid not in again and not each.deleting]
        return [each for each in left if each.exists or each.has_scaler]

    async def _of(self, workload: Workload) -> Finding:
        uuid, user = workload.uuid, workload.user_id
        has = ["a release"] * (workload.release is not None) + ["a Deployment"] * workload.deployed
        free = user is not None and await self._is_free(user)
        if free:
            step = f"`user-pods create {user}` gives it its record again."
        else:
            step = (
                f"Look at its volume, then `helm -n {self._namespace} uninstall {release_name(uuid)}` or"
                f" `kubectl -n {self._namespace} delete deployment {release_name(uuid)}` removes it."
            )
        owner = "nobody" if user is None else f"{user}, who has {'no' if free else 'another'} session"
        return self.finding(
            uuid,
            Severity.WARNING,
            f"The cluster has {' and '.join(has) or 'a ScaledObject'} of {release_name(uuid)}, Redis no record."
            f" It belongs to {owner}.",
            meaning="No list shows it, and nobody can open it. If its pod runs, it costs money.",
            next_step=step,
            fixable=free,
        )

    async def _is_free(self, user_id: str) -> bool:
        """Whether the user has no session."""
        try:
            return await self._store.owner(user_id) is None
        except SessionUnreadable:
            return False


def _is_foreign(workload: Workload) -> bool:
    """Whether somebody has installed the chart by hand: a whole release that names no user is not the service's."""
    return workload.user_id is None and workload.broken_reason is None


class EditedObjects(Check):
    name = "edits"
    fine = "Nobody has changed a Deployment or ScaledObject by hand."

    def __init__(self, *, namespace: str) -> None:
        self._namespace = namespace

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        found = []
        sessions = await survey.sessions()
        for each in await survey.objects():
            if each.uuid is None or not each.edits:
                continue
            session = sessions.get(each.uuid)
            owner = f" of {session.record.user_id}" if session is not None else ""
            fields = [name for edit in each.edits for name in edit.fields]
            managers = ", ".join({edit.manager for edit in each.edits})
            shown = ", ".join(fields[:_FIELDS]) + (f" and {len(fields) - _FIELDS} more" if fields[_FIELDS:] else "")
            found.append(
                self.finding(
                    each.label,
                    Severity.WARNING,
                    f"{each.label}{owner} differs from its chart: {managers} has set {shown}.",
                    meaning="Its session behaves differently from the others, and an upgrade may undo the change.",
                    next_step="Put the change into the values of every session (CHART_VALUES of the service), or"
                    f" undo it: `{undo_command(self._namespace, each.uuid)}`.",
                )
            )
        return found


class StuckDeletions(Check):
    name = "finalizers"
    fine = "No object waits to be deleted."

    def __init__(self, *, stuck_after: timedelta, namespace: str) -> None:
        self._stuck_after = stuck_after
        self._namespace = namespace

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        found = []
        for each in await survey.objects():
            if each.deleting_since is None or survey.now - each.deleting_since < self._stuck_after:
                continue
            minutes = (survey.now - each.deleting_since) / timedelta(minutes=1)
            waits = f"for its finalizers ({', '.join(each.finalizers)})" if each.finalizers else "for its node"
            found.append(
                self.finding(
                    each.label,
                    Severity.ERROR,
                    f"{each.label} was deleted {minutes:.0f} min ago and waits {waits}.",
                    meaning="Its session can be neither deleted nor installed again until it is gone.",
                    next_step="Start the program that removes the finalizer (for finalizer.keda.sh: KEDA). If that is"
                    " gone for good and has nothing to clean up any more:"
                    f" `kubectl -n {self._namespace} patch {each.label} --type merge"
                    """ -p '{"metadata":{"finalizers":null}}'`."""
                    if each.finalizers
                    else f"`kubectl get nodes` shows whether its node lives; `kubectl -n {self._namespace} describe"
                    f" {each.label}` says more.",
                )
            )
        return found


class UnboundClaims(Check):
    name = "volumes"
    fine = "Every claim has a storage class."

    def __init__(self, *, namespace: str) -> None:
        self._namespace = namespace

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        without = [each for each in await survey.objects() if each.unbound and not each.storage_class]
        return [
            self.finding(
                each.label,
                Severity.ERROR,
                f"{each.label} has no volume, and no storage class that could make one.",
                meaning="The session's pod cannot start.",
                next_step="`kubectl get storageclass` shows the classes. Set `persistence.storageClassName` in the"
                " values of every session, or make a class the default; a claim that exists keeps its class, so delete"
                f" it while it is empty: `kubectl -n {self._namespace} delete {each.label}`.",
            )
            for each in without
        ]
