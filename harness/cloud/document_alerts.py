"""The part ``alerts:`` of a document: alert rules and what they refer to, as the console's form has them.

Source: "Express Connect: configure and manage BGP", "View monitoring events of BGP peers" (VBR-23, VBR-37 to VBR-41). What a rule must
be is ``harness.cloud.alerts``; this is its written form and the way from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from harness.cloud.alerts import Alerting, AlertRule, ApplicationGroup, Contact, ContactGroup, KeywordCondition
from harness.cloud.document_shape import Form
from harness.cloud.document_tree import Path
from harness.cloud.events import NAME_OF, PRODUCT, EventName, EventType, Level

LevelName = Literal["Critical", "Warning", "Info"]
CONDITIONS = {"any": KeywordCondition.CONTAINS_ANY, "none": KeywordCondition.CONTAINS_NONE}


class AlertRuleForm(Form):
    """An event-triggered alert rule."""

    name: str = Field(description="name of the rule")
    product: str = Field(PRODUCT, description="product type; BGP peers are of this one")
    event_type: Literal["Down", "Receive Routes"] = Field(
        description="Down: a peer is disconnected; Receive Routes: it exceeds its route quota"
    )
    event_name: Literal["BgpPeerStatus:Down", "BgpPeerReceiveRoutes:Exceed"] | None = Field(
        None, description="name of the event; default: the one of the event type"
    )
    level: LevelName = Field("Warning", description="level of the event; both events are of the level Warning")
    keywords: list[str] = Field([], description="keywords that the event is searched for")
    keyword_condition: Literal["any", "none"] = Field(
        "any", description="alert if the event contains any of the keywords, or none of them"
    )
    sql: str | None = Field(None, description="a condition over the table event, in SQL")
    application_group: str | None = Field(None, description="only for resources of this group; default: all resources")
    contact_group: str | None = Field(None, description="who is notified")
    notification: LevelName = Field(
        "Warning",
        description="by which channels: Critical phone, SMS, email, webhook; Warning without phone; Info email, webhook",
    )
    smq: str | None = Field(None, description="name of an SMQ queue, among queues")
    function: str | None = Field(None, description="name of a Function Compute function, among functions")
    log_store: str | None = Field(None, description="name of a Logstore, among log_stores")
    callback: str | None = Field(
        None, description="URL that gets a POST; http only, such as http://172.16.0.10:8080/alerts"
    )
    mute_period: float | None = Field(
        None, description="seconds until the alert is sent again while it is not cleared; default: once only"
    )


class ContactForm(Form):
    """An alert contact."""

    name: str = Field(description="name of the contact")
    phone: str | None = Field(None, description="number for phone and SMS")
    email: str | None = Field(None, description="address")
    webhook: str | None = Field(None, description="URL that gets a POST")


class ContactGroupForm(Form):
    """An alert contact group."""

    name: str = Field(description="name of the group")
    contacts: list[ContactForm] = Field([], description="who is in it")


class ApplicationGroupForm(Form):
    """Resources that belong together."""

    name: str = Field(description="name of the group")
    resources: list[str] = Field([], description='such as "vbr/NAME/bgp-peer/10.1.1.2", or "vbr/NAME" for all below it')


class AlertsForm(Form):
    """Alert rules, and what they may refer to. A queue, a function or a Logstore is a local file of the lab."""

    rules: list[AlertRuleForm] = Field([], description="the alert rules", max_length=64)
    contact_groups: list[ContactGroupForm] = Field([], description="alert contact groups")
    application_groups: list[ApplicationGroupForm] = Field([], description="application groups")
    queues: list[str] = Field([], description="SMQ queues")
    functions: list[str] = Field([], description="Function Compute functions")
    log_stores: list[str] = Field([], description="Logstores")


def alerting_of(form: AlertsForm) -> Alerting:
    """The resources."""
    contacts = ((group.name, [contact.model_dump() for contact in group.contacts]) for group in form.contact_groups)
    return Alerting(
        tuple(_rule(rule) for rule in form.rules),
        tuple(ContactGroup(name, tuple(Contact(**each) for each in group)) for name, group in contacts),
        tuple(ApplicationGroup(group.name, tuple(group.resources)) for group in form.application_groups),
        tuple(form.queues),
        tuple(form.functions),
        tuple(form.log_stores),
    )


def _rule(form: AlertRuleForm) -> AlertRule:
    kind = EventType(form.event_type)
    return AlertRule(
        form.name,
        kind,
        NAME_OF[kind] if form.event_name is None else EventName(form.event_name),
        form.product,
        Level(form.level),
        tuple(form.keywords),
        CONDITIONS[form.keyword_condition],
        form.sql,
        form.application_group,
        form.contact_group,
        Level(form.notification),
        form.smq,
        form.function,
        form.log_store,
        form.callback,
        form.mute_period,
    )


def objects_of(form: AlertsForm, top: Path) -> Iterator[tuple[str, Path]]:
    """Where each object is written, by the name that findings give it."""
    for number, rule in enumerate(form.rules):
        yield f"alert rule {rule.name}", (*top, "rules", number)
        if not rule.name.strip():
            yield "alert rule without a name", (*top, "rules", number)
    for number, group in enumerate(form.contact_groups):
        yield f"alert contact group {group.name}", (*top, "contact_groups", number)
        for index, contact in enumerate(group.contacts):
            owner = f"alert contact {contact.name} of group {group.name}"
            yield owner, (*top, "contact_groups", number, "contacts", index)
    for number, resources in enumerate(form.application_groups):
        yield f"application group {resources.name}", (*top, "application_groups", number)
