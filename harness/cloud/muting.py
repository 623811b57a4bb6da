"""When an alert is sent, and when again: the mute period (VBR-37) as a state machine without a clock.

An event that a rule takes is sent at once. With a mute period the same trouble (rule, resource, event name) is then silent for that
long; as long as it has not cleared it is sent again at the end of each period, with the newest event. Cleared, it is sent no more, and
the next event is sent at once. Without a mute period every event is sent, none again.

Feed it happenings with the time (seconds of any steady clock), carry out what it returns, and call :meth:`Alarms.tick` at
:meth:`Alarms.deadline`.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.cloud.alerts import Alerting, AlertRule, judge_event
from harness.cloud.events import Cleared, Event, EventName, Happening


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert to be sent now: the ``number``-th of the same trouble, from 1 on; ``trouble`` is that of the rule itself.

    ``at`` is the moment of the decision, from which a mute period counts; a busy machine sends later.
    """

    rule: AlertRule
    event: Event
    number: int
    trouble: str | None = None
    at: float = 0.0


@dataclass(slots=True)
class _Muted:
    rule: AlertRule
    event: Event
    sent: int
    due: float


_Key = tuple[str, EventName, str]


class Alarms:
    """Every alert rule at work."""

    def __init__(self, alerting: Alerting) -> None:
        self.alerting = alerting
        self._muted: dict[_Key, _Muted] = {}

    def take(self, happening: Happening, now: float) -> list[Alert]:
        """The alerts that a happening leads to at once."""
        match happening:
            case Event():
                return [alert for rule in self.alerting.rules if (alert := self._raise(rule, happening, now))]
            case Cleared():
                for rule in self.alerting.rules:
                    self._muted.pop((rule.name, happening.name, happening.resource), None)
                return []

    def tick(self, now: float) -> list[Alert]:
        """The alerts that are due again."""
        due = []
        for muted in self._muted.values():
            if muted.due <= now:
                assert muted.rule.mute_period is not None
                muted.sent += 1
                # From now on, not from when it was due: a process that was kept waiting does not catch up in a burst.
                muted.due = now + muted.rule.mute_period
                due.append(Alert(muted.rule, muted.event, muted.sent, at=now))
        return due

    def deadline(self) -> float | None:
        """When :meth:`tick` has something to do; None: nothing is to be repeated."""
        return min((muted.due for muted in self._muted.values()), default=None)

    def _raise(self, rule: AlertRule, event: Event, now: float) -> Alert | None:
        verdict = judge_event(self.alerting, rule, event)
        if not verdict.taken:
            return None
        if rule.mute_period is None:
            return Alert(rule, event, 1, verdict.trouble, now)
        key = (rule.name, event.name, event.resource)
        if (muted := self._muted.get(key)) is not None:
            muted.event = event
            return None
        self._muted[key] = _Muted(rule, event, 1, now + rule.mute_period)
        return Alert(rule, event, 1, verdict.trouble, now)
