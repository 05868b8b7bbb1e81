"""Who carries what: routes, their lanes and couriers, and the decision whether a unit waits here or on the ladder."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

import structlog

from depesche.schemas.service import Clock, now_ms
from depesche.streams.mail.attempt import Finding
from depesche.streams.mail.ladder import delay_ms, until, without_attempt
from depesche.streams.mail.reply import Judgement
from depesche.streams.stages.connections import NO_ROOM
from depesche.streams.stages.courier import Courier, Gear
from depesche.streams.stages.errand import Errand
from depesche.streams.stages.lane import Lane, asked_tls, lane_key
from depesche.streams.stages.terms import RouteTerms
from depesche.streams.wire.dns import Hosts
from depesche.streams.wire.smtp import NO_TLS, Answer

log = structlog.get_logger(__name__)

FIRST_RUNG = "1m"
_PATIENCE_IN_A_STANDING_LANE = 5.0
_ERRANDS_BEFORE_YIELDING = 20


class Route:
    """The connections of one route: at most as many as its terms allow, shared by its lanes."""

    def __init__(self, name: str, dispatch: Dispatch) -> None:
        self.name = name
        self.lanes: dict[str, Lane] = {}
        self.couriers: set[Courier] = set()
        self._starved: deque[Lane] = deque()
        self._dispatch = dispatch
        self.terms = dispatch.terms(name)
        self._carried: dict[Courier, int] = {}

    def add(self, errand: Errand, hosts: Hosts, now: float) -> None:
        """Let a unit wait for a courier, or move it to the ladder."""
        tls = asked_tls(errand.unit, self.terms.shape)
        key = lane_key(tls, hosts)
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Lane(key, hosts, now, tls)
            lane.gap = self.terms.turnstile.interval
        lane.hosts = hosts
        suspended = self.terms.suspended_for(now)
        if suspended or lane.closed(now) or lane.wait_expected(now, errand.unit.tenant) > self._dispatch.patience:
            self._dispatch.park(errand, lane, suspended)
            return
        lane.add(errand, now)
        self.staff(lane, now)

    def staff(self, lane: Lane, now: float) -> None:
        """See that somebody works where something waits, unless the rate keeps those waiting who work there already."""
        if not lane.queue or self.terms.suspended_for(now):
            return
        if lane.idle:
            lane.idle.pop().call()
        elif lane.couriers < lane.limit(now) and not (lane.couriers and self.terms.turnstile.waiting):
            if len(self.couriers) < self.terms.connections:
                lane.couriers += 1
                self.couriers.add(Courier(lane, self, self._dispatch.gear))
            elif not lane.couriers and lane not in self._starved:
                self._starved.append(lane)
                self._dismiss_an_idle_one()

    def _dismiss_an_idle_one(self) -> None:
        for lane in self.lanes.values():
            if lane.idle:
                lane.idle.pop().call(leave=True)
                return

    # What couriers say.

    def left(self, courier: Courier) -> None:
        """See ``courier.Base``."""
        now = self._dispatch.monotonic()
        self.couriers.discard(courier)
        self._carried.pop(courier, None)
        courier.lane.couriers -= 1
        if self._starved:
            self.staff(self._starved.popleft(), now)
        if not courier.lane.closed(now):
            self.staff(courier.lane, now)

    def should_leave(self, courier: Courier) -> bool:
        """See ``courier.Base``."""
        if not self._starved:
            return False
        carried = self._carried[courier] = self._carried.get(courier, 0) + 1
        return carried >= _ERRANDS_BEFORE_YIELDING or courier.lane.couriers > 1

    def not_opened(self, courier: Courier, errand: Errand, answer: Answer) -> None:
        """See ``courier.Base``."""
        lane, now = courier.lane, self._dispatch.monotonic()
        others = sum(1 for other in self.couriers if other.lane is lane and other is not courier and other.connected)
        lane.last_answer, lane.last_enhanced = answer.text, answer.enhanced
        if others and answer.code // 100 != 5:
            # One connection too many is not the mail's fault: it goes out over one of the others.
            lane.refused_one_more(others, now)
            errand.stage = "waiting"
            lane.queue.put_back(errand)
            return
        if answer.code // 100 != 5:
            seconds = lane.back_off(now, self._dispatch.gear.settings.time_scale)
            log.warning(
                "route_backs_off", route=self.name, seconds=round(seconds, 1), step=answer.step, code=answer.code
            )
        self.learn(self._dispatch.gear.recorder.settle(errand, errand.finding(answer, now)), answer.code)

    def no_room(self, courier: Courier, errand: Errand) -> None:
        """See ``courier.Base``."""
        lane = courier.lane
        lane.last_answer, lane.last_enhanced = NO_ROOM.text, NO_ROOM.enhanced
        self._dispatch.park(errand, lane)

    def learn(self, judgement: Judgement | None, code: int) -> None:
        """See ``courier.Base``."""
        if judgement is not None and self.terms.learn(judgement, code):
            self.tidy(self._dispatch.monotonic())

    @property
    def suspended(self) -> bool:
        """See ``courier.Base``."""
        return self.terms.suspended_for(self._dispatch.monotonic()) > 0

    def tidy(self, now: float) -> None:
        """Move what waits in vain to the ladder; forget lanes that nobody uses."""
        suspended = self.terms.suspended_for(now)
        busy = sum(1 for lane in self.lanes.values() if lane.queue) or 1
        for lane in list(self.lanes.values()):
            lane.gap = self.terms.turnstile.interval * busy
            patience = self._dispatch.patience
            if suspended or lane.closed(now):
                patience = 0.0
            elif lane.stands(now):
                patience = min(patience, _PATIENCE_IN_A_STANDING_LANE)
            self._park_stale(lane, now, patience, suspended)
            self.staff(lane, now)
            if lane.forgettable(now):
                del self.lanes[lane.key]

    def _park_stale(self, lane: Lane, now: float, patience: float, suspended: float) -> None:
        for errand in lane.queue.take_oldest(lambda errand: not errand.live or now - errand.since >= patience):
            if errand.live:
                self._dispatch.park(errand, lane, suspended)


class Dispatch:
    """All routes of a courier process.

    Attributes:
        gear: what couriers share.
        patience: seconds that a unit may wait for a connection: as long as on the first rung of the ladder.
    """

    def __init__(self, gear: Gear, clock: Clock = now_ms, monotonic: Callable[[], float] | None = None) -> None:
        self.gear = gear
        self.patience = delay_ms(FIRST_RUNG, gear.settings.time_scale) / 1000
        self.monotonic = monotonic or asyncio.get_running_loop().time
        self.parked = 0
        self._clock = clock
        self._routes: dict[str, Route] = {}

    def add(self, errand: Errand, hosts: Hosts) -> None:
        """A unit whose hosts are known wants to go."""
        name = errand.unit.route
        route = self._routes.get(name)
        if route is None:
            route = self._routes[name] = Route(name, self)
        route.add(errand, hosts, self.monotonic())

    def terms(self, name: str) -> RouteTerms:
        """What holds for the route called ``name``."""
        gear = self.gear
        return RouteTerms(name, gear.guidance, gear.settings.time_scale, self._clock, self.monotonic)

    def park(self, errand: Errand, lane: Lane | None = None, seconds: float = 0.0) -> None:
        """Move a unit to the ladder without an attempt; one that has no time left for that expires.

        Args:
            errand: the unit.
            lane: where it waited, if it did.
            seconds: how long its route is suspended; it need not come back before.
        """
        unit, now, scale = errand.unit, self._clock(), self.gear.settings.time_scale
        next_try = without_attempt(unit.accepted_at, now, unit.expires_at, scale)
        if next_try is not None and seconds:
            later = until(now + round(seconds * 1000), now, scale)
            next_try = later if next_try.due_at < later.due_at <= unit.expires_at else next_try
        if next_try is not None:
            self.parked += 1
            self.gear.recorder.park(errand, next_try, "route suspended" if seconds else "no room")
            return
        reason = lane.last_answer if lane is not None else ""
        enhanced = NO_TLS if lane is not None and lane.last_enhanced == NO_TLS else "4.4.7"
        finding = Finding("", 0, enhanced, reason, recipient=errand.recipient)
        self.gear.recorder.settle(errand, finding)

    def tidy(self) -> None:
        """See ``Route.tidy``; called every second."""
        now = self.monotonic()
        for route in list(self._routes.values()):
            route.terms.refresh()
            route.tidy(now)
            if not route.lanes and not route.couriers:
                del self._routes[route.name]

    def withdraw(self, chosen: Callable[[Errand], bool]) -> list[Errand]:
        """Take the waiting units for which ``chosen`` is true out of their lanes; what is under way goes on."""
        taken: list[Errand] = []
        for route in self._routes.values():
            for lane in route.lanes.values():
                taken += lane.queue.take(lambda errand: errand.live and chosen(errand))
        return taken

    def reopen(self, chosen: Callable[[str], bool]) -> None:
        """Let the lanes of the routes for which ``chosen`` is true try again at once."""
        for route in self._routes.values():
            if chosen(route.name):
                route.terms.reopen()
                for lane in route.lanes.values():
                    lane.reopen()

    def abandon(self) -> None:
        """Drop what is another's by now, in the middle of whatever it is."""
        for route in self._routes.values():
            for courier in route.couriers:
                if courier.errand is not None and not courier.errand.live:
                    courier.task.cancel()
            for lane in route.lanes.values():
                lane.queue.take(lambda errand: not errand.live)

    async def stop(self) -> None:
        """End all couriers; what has no dot yet is not sent."""
        tasks = [courier.task for courier in self._couriers()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _couriers(self) -> Iterator[Courier]:
        for route in self._routes.values():
            yield from list(route.couriers)
