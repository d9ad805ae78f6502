"""Releases and the objects that they should have."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.ports import Inventory, ObjectFacts
from service.domain.diagnosis.repairs import UNKNOWN_USER, Repairs
from service.domain.diagnosis.survey import Survey
from service.domain.errors import SessionBusy
from service.domain.names import SessionId, release_name
from service.domain.ports import Store
from service.domain.record import RecordStatus
from service.domain.release import ReleaseState
from service.domain.session import Session

ABANDONED = timedelta(minutes=10)
"""A helm that has worked on a release for longer than this is dead. By default, helm itself gives up after five."""
KEPT = 10
"""Revisions of a release that are normal: helm keeps as many, unless it is told otherwise."""
_PENDING = frozenset({ReleaseState.PENDING_UPGRADE, ReleaseState.PENDING_ROLLBACK})


class Installations(Check):
    """Sessions whose objects are incomplete, or whose release was never finished."""

    name = "installation"
    fine = "Every session has its release, Deployment and ScaledObject."

    def __init__(self, repairs: Repairs) -> None:
        self._repairs = repairs

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        broken = {
            uuid: session
            for uuid, session in (await survey.sessions()).items()
            if session.status is RecordStatus.CREATED and self._is_broken(session, survey)
        }
        lost = await _not_kept(survey) if any(map(_is_removed_first, broken.values())) else frozenset()
        return [
            self._of(uuid, session, loses_volume=_is_removed_first(session) and uuid in lost)
            for uuid, session in broken.items()
        ]

    async def mend(self, finding: Finding, survey: Survey) -> str:
        await self._repairs.complete((await survey.sessions())[SessionId(finding.subject)])
        return "the release is complete again; idle times that nothing recalls are the defaults"

    @staticmethod
    def _is_broken(session: Session, survey: Survey) -> bool:
        release = session.workload.release
        if release is not None and release.transient and survey.now - release.modified_at < ABANDONED:
            return False  # somebody's helm is at work
        return session.workload.broken_reason is not None

    def _of(self, uuid: SessionId, session: Session, *, loses_volume: bool) -> Finding:
        release, known = session.workload.release, session.user_id != UNKNOWN_USER
        # To finish an uninstall may not be what its operator wants; a new release would restart a pod that is in use.
        removing = release is not None and release.state is ReleaseState.UNINSTALLING
        awake = session.workload.replicas > 0
        step = f"`user-pods create {session.user_id}` installs what is missing"
        if removing:
            step = f"`helm uninstall {release_name(uuid)}` finishes the removal, or {step}"
        elif awake:
            step += ". Its pod runs, and restarts if the chart has changed: wait until the user has finished"
        if loses_volume:
            step += ". That removes the release first, and with it the volume, which is not kept: save its files"
        return self.finding(
            uuid,
            Severity.ERROR,
            f"The session is incomplete: {session.workload.broken_reason}.",
            meaning="It cannot wake. Its volume is as it was.",
            next_step=step + ".",
            fixable=known and not removing and not awake and not loses_volume,
        )


def _is_removed_first(session: Session) -> bool:
    """Whether a repair has to uninstall the release."""
    release = session.workload.release
    return release is not None and release.unfinished


async def _not_kept(survey: Survey) -> frozenset[SessionId]:
    """The sessions whose volume goes with their release."""
    claims = (each for each in await survey.objects() if each.kind == "persistentvolumeclaim" and not each.kept)
    return frozenset(each.uuid for each in claims if each.uuid is not None)


class StuckReleases(Check):
    """Releases that a dead helm has left in the middle of an upgrade: they work, but helm refuses to touch them."""

    name = "releases"
    fine = "No release is stuck in an upgrade."

    def __init__(self, inventory: Inventory, store: Store, *, namespace: str) -> None:
        self._inventory = inventory
        self._store = store
        self._namespace = namespace

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        found = []
        for uuid, revisions in _by_release(await survey.objects()).items():
            newest = revisions[-1]
            age = survey.now - newest.modified_at if newest.modified_at else timedelta.max
            if newest.state in _PENDING and age > ABANDONED:
                found.append(self._of(uuid, newest, revisions))
        return found

    async def mend(self, finding: Finding, _survey: Survey) -> str:
        uuid = SessionId(finding.subject)
        async with self._store.lock(uuid) as lock:
            revisions = sorted(await self._inventory.revisions(uuid), key=lambda each: each.revision or 0)
            if len(revisions) < 2 or revisions[-1].state not in _PENDING or not _deployed(revisions[:-1]):
                raise SessionBusy("somebody works on the release; look again", retry_after=5)
            stuck = revisions[-1].revision or 0
            await lock.confirm()
            await self._inventory.delete_revision(uuid, stuck)
        return f"revision {stuck}, which was never finished, is gone; the next upgrade starts from the one before"

    def _of(self, uuid: SessionId, newest: ObjectFacts, revisions: Sequence[ObjectFacts]) -> Finding:
        name = release_name(uuid)
        return self.finding(
            uuid,
            Severity.ERROR,
            f"The release {name} is in the state {newest.state}, and no helm works on it any more.",
            meaning="Every upgrade is refused: another operation is in progress.",
            next_step=f"`helm -n {self._namespace} rollback {name}` goes back to the revision before.",
            fixable=_deployed(revisions[:-1]),
        )


class Revisions(Check):
    name = "revisions"
    fine = "No release has more revisions than helm keeps."

    def __init__(self, inventory: Inventory, store: Store) -> None:
        self._inventory = inventory
        self._store = store

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        return [
            self.finding(
                uuid,
                Severity.WARNING,
                f"The release {release_name(uuid)} has {len(revisions)} revisions; helm keeps {KEPT}.",
                meaning="Each is a Secret, which the API server and every replica of the service keep in memory.",
                next_step=f"Upgrade with `helm upgrade --history-max {KEPT}`, which deletes the oldest.",
                fixable=bool(_superfluous(revisions)),
            )
            for uuid, revisions in _by_release(await survey.objects()).items()
            if len(revisions) > KEPT
        ]

    async def mend(self, finding: Finding, _survey: Survey) -> str:
        uuid = SessionId(finding.subject)
        async with self._store.lock(uuid) as lock:
            superfluous = _superfluous(
                sorted(await self._inventory.revisions(uuid), key=lambda each: each.revision or 0)
            )
            for each in superfluous:
                await lock.confirm()
                await self._inventory.delete_revision(uuid, each.revision or 0)
        return f"the {len(superfluous)} oldest revisions are gone, which others had superseded"


def _by_release(objects: Sequence[ObjectFacts]) -> dict[SessionId, list[ObjectFacts]]:
    """The revisions of each release, the oldest first."""
    found: dict[SessionId, list[ObjectFacts]] = defaultdict(list)
    for each in objects:
        if each.revision is not None and each.uuid is not None:
            found[each.uuid].append(each)
    for revisions in found.values():
        revisions.sort(key=lambda each: each.revision or 0)
    return found


def _deployed(revisions: Sequence[ObjectFacts]) -> bool:
    return any(each.state == ReleaseState.DEPLOYED for each in revisions)


def _superfluous(revisions: Sequence[ObjectFacts]) -> Sequence[ObjectFacts]:
    """The oldest revisions beyond the limit that have been superseded: helm would delete the same."""
    return [each for each in revisions[:-KEPT] if each.state == ReleaseState.SUPERSEDED]
