"""Alert rules over events, as the console's form "Create/modify event-triggered alert rule" has them, and what they are checked for.

Source: "Express Connect: configure and manage BGP", "View monitoring events of BGP peers" (VBR-23, VBR-37 to VBR-41). Pure values: which
event an alert rule lets through is :func:`judge_event`, when an alert is sent again ``harness.cloud.muting``, delivery
``harness.alerts``. The document names groups, queues, functions and Logstores that exist elsewhere; here they are part of
:class:`Alerting`, so that an unknown one can be refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from harness.cloud.events import NAME_OF, PRODUCT, Event, EventName, EventType, Level
from harness.cloud.findings import Finding, Refused
from harness.cloud.sql_filter import SqlFilterError, passes, refusal


class KeywordCondition(StrEnum):
    """The condition of the keyword filter."""

    CONTAINS_ANY = "contains any of the keywords"
    CONTAINS_NONE = "contains none of the keywords"


class Channel(StrEnum):
    """Where an alert can go. Each is a local sink in a lab†, webhooks and callbacks apart, which are HTTP POST."""

    PHONE = "phone"
    SMS = "sms"
    EMAIL = "email"
    WEBHOOK = "webhook"
    SMQ = "smq"
    FUNCTION_COMPUTE = "function-compute"
    LOG_SERVICE = "simple-log-service"
    CALLBACK = "callback"


#: VBR-39: the channels of a notification level.
CHANNELS_OF: dict[Level, tuple[Channel, ...]] = {
    Level.CRITICAL: (Channel.PHONE, Channel.SMS, Channel.EMAIL, Channel.WEBHOOK),
    Level.WARNING: (Channel.SMS, Channel.EMAIL, Channel.WEBHOOK),
    Level.INFO: (Channel.EMAIL, Channel.WEBHOOK),
}
#: VBR-41: the scheme of a callback's URL.
CALLBACK_SCHEME = "http"


@dataclass(frozen=True, slots=True)
class Contact:
    """An alert contact; a channel without an address is left out for this contact."""

    name: str
    phone: str | None = None
    email: str | None = None
    webhook: str | None = None

    def address(self, channel: Channel) -> str | None:
        reached = {Channel.EMAIL: self.email, Channel.WEBHOOK: self.webhook}
        return reached.get(channel, self.phone)


@dataclass(frozen=True, slots=True)
class ContactGroup:
    name: str
    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class ApplicationGroup:
    """Resources that belong together, by their names ("vbr/vbr-1/bgp-peer/10.1.1.2"); "vbr/vbr-1" stands for all below it."""

    name: str
    resources: tuple[str, ...]

    def holds(self, resource: str) -> bool:
        return any(resource == each or resource.startswith(f"{each}/") for each in self.resources)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """The form. ``application_group`` None: all resources. ``mute_period`` in seconds; None: no alert is repeated.

    ``contact_group`` is notified by the channels of ``notification``; the other destinations are names of a queue, a function, a
    Logstore, and a URL. A rule without any destination alerts the contact of last resort, the log.
    """

    name: str
    event_type: EventType
    event_name: EventName
    product: str = PRODUCT
    level: Level = Level.WARNING
    keywords: tuple[str, ...] = ()
    keyword_condition: KeywordCondition = KeywordCondition.CONTAINS_ANY
    sql: str | None = None
    application_group: str | None = None
    contact_group: str | None = None
    notification: Level = Level.WARNING
    smq: str | None = None
    function: str | None = None
    log_store: str | None = None
    callback: str | None = None
    mute_period: float | None = None


@dataclass(frozen=True, slots=True)
class Alerting:
    """Every alert rule, and what the rules may refer to."""

    rules: tuple[AlertRule, ...] = ()
    contact_groups: tuple[ContactGroup, ...] = ()
    application_groups: tuple[ApplicationGroup, ...] = ()
    queues: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    log_stores: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule takes an event, and why; ``trouble`` says what of the rule did not work on it."""

    taken: bool
    reason: str
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """One place that an alert goes to: an address for contacts, a name for queues, functions and Logstores, a URL."""

    channel: Channel
    address: str
    contact: str = ""

    def __str__(self) -> str:
        return f"{self.channel} {self.contact or self.address}"


def judge_event(alerting: Alerting, rule: AlertRule, event: Event) -> Verdict:
    """Does ``rule`` take the event? A filter that fails lets it through: an alert too many is better than one too few."""
    if (rule.event_name, rule.level) != (event.name, event.level):
        return Verdict(False, f"the rule is for {rule.level} {rule.event_name}")
    if rule.application_group is not None:
        group = next((g for g in alerting.application_groups if g.name == rule.application_group), None)
        if group is None or not group.holds(event.resource):
            return Verdict(False, f"{event.resource} is not in application group {rule.application_group}")
    if rule.keywords:
        text = _readable(event).casefold()
        found = [word for word in rule.keywords if word.casefold() in text]
        if bool(found) is not (rule.keyword_condition is KeywordCondition.CONTAINS_ANY):
            return Verdict(False, f"the event contains {', '.join(found) or 'no keyword'}")
    if rule.sql is not None and rule.sql.strip():
        try:
            if not passes(rule.sql, event):
                return Verdict(False, "the SQL filter holds it back")
        except SqlFilterError as error:
            return Verdict(True, "the SQL filter failed", f"SQL filter: {error}")
    return Verdict(True, "all conditions hold")


def _readable(event: Event) -> str:
    """What the keyword filter searches: all values, but not the trace ID, whose letters mean nothing."""
    fields = event.fields()
    content = fields.pop("content")
    return "\n".join(str(value) for name, value in (*fields.items(), *content.items()) if name != "traceId")


def destinations(alerting: Alerting, rule: AlertRule) -> list[Destination]:
    """Where an alert of the rule goes; none: to the log alone."""
    found = []
    group = next((g for g in alerting.contact_groups if g.name == rule.contact_group), None)
    for contact in () if group is None else group.contacts:
        for channel in CHANNELS_OF[rule.notification]:
            if (address := contact.address(channel)) is not None:
                found.append(Destination(channel, address, contact.name))
    for channel, name in (
        (Channel.SMQ, rule.smq),
        (Channel.FUNCTION_COMPUTE, rule.function),
        (Channel.LOG_SERVICE, rule.log_store),
        (Channel.CALLBACK, rule.callback),
    ):
        if name is not None:
            found.append(Destination(channel, name))
    return list(dict.fromkeys(found))


def validate(alerting: Alerting) -> list[Finding]:
    """Every broken rule of the form."""
    found = [finding for rule in alerting.rules for finding in _of_rule(alerting, rule)]
    for what, names in (
        ("alert rule", [rule.name for rule in alerting.rules]),
        ("alert contact group", [group.name for group in alerting.contact_groups]),
        ("application group", [group.name for group in alerting.application_groups]),
    ):
        for name, count in Counter(names).items():
            if count > 1:
                found.append(Finding(f"{what} {name}", f"{count} have this name", "VBR-38", "Rename all but one"))
    for group in alerting.contact_groups:
        for contact in group.contacts:
            if contact.webhook is not None and (why := url_refusal(contact.webhook, ("http", "https"))):
                owner = f"alert contact {contact.name} of group {group.name}"
                found.append(Finding(owner, f"webhook {why}", "VBR-39", "Give a URL such as http://192.0.2.1/alerts"))
    return found


def require_valid(alerting: Alerting) -> Alerting:
    """The same rules. Raises :class:`harness.cloud.findings.Refused` with every finding otherwise."""
    if found := validate(alerting):
        raise Refused(found)
    return alerting


def _of_rule(alerting: Alerting, rule: AlertRule) -> Iterator[Finding]:
    owner = f"alert rule {rule.name}"
    if not rule.name.strip():
        yield Finding("alert rule without a name", "an alert rule has a name", "VBR-38", "Give it one")
    if rule.product != PRODUCT:
        yield Finding(owner, f"product {rule.product!r} has no BGP peers", "VBR-38", f'Select "{PRODUCT}"')
    if rule.event_name != NAME_OF[rule.event_type]:
        rule_text = f"event name {rule.event_name} does not fit event type {rule.event_type}"
        remedy = f"Select {NAME_OF[rule.event_type]}, or the other event type"
        yield Finding(owner, rule_text, "VBR-38", remedy)
    if any(not word.strip() for word in rule.keywords):
        yield Finding(owner, "a keyword is empty, which every event contains", "VBR-23", "Leave it out")
    if rule.sql is not None and rule.sql.strip() and (why := refusal(rule.sql)):
        yield Finding(owner, f"the SQL filter cannot run: {why}", "VBR-23", "Give a condition over the table event")
    if rule.mute_period is not None and not 0 < rule.mute_period < float("inf"):
        rule_text = f"mute period {rule.mute_period:g} s is not positive"
        yield Finding(owner, rule_text, "VBR-37", "Give seconds over 0, or none for no repetition")
    if rule.callback is not None and (why := url_refusal(rule.callback, (CALLBACK_SCHEME,))):
        yield Finding(owner, f"URL callback {why}", "VBR-41", "Give a URL such as http://192.0.2.1:8080/alerts")
    known: tuple[tuple[str, str | None, Sequence[Any], str], ...] = (
        ("alert contact group", rule.contact_group, [group.name for group in alerting.contact_groups], "VBR-39"),
        ("application group", rule.application_group, [group.name for group in alerting.application_groups], "VBR-23"),
        ("SMQ queue", rule.smq, alerting.queues, "VBR-40"),
        ("Function Compute function", rule.function, alerting.functions, "VBR-40"),
        ("Logstore", rule.log_store, alerting.log_stores, "VBR-40"),
    )
    for what, name, names, spec in known:
        if name is not None and name not in names:
            choice = f"Choose {', '.join(names)}" if names else "Create it first"
            yield Finding(owner, f"{what} {name!r} does not exist", spec, choice)


def url_refusal(url: str, schemes: tuple[str, ...]) -> str | None:
    """Why a URL cannot be posted to, None where it can."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"{url!r} is no URL: {error}"
    if parts.scheme.lower() not in schemes:
        return f"{url!r} is not of the scheme {' or '.join(schemes)}"
    if not host or any(character.isspace() or not character.isprintable() for character in url):
        return f"{url!r} is no URL of a host"
    if parts.username is not None or parts.password is not None:
        return f"of host {host} carries a user or a password"
    return None
