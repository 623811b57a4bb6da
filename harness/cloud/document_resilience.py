"""The document ``resilience:``: a VBR as in ``vbr:`` and VPN gateways as in ``vpn_gateway:``, with one VPC and one data centre.

VPC and data centre are written on the side of the VPN gateway; the circuit leads to that data centre unless it names another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import Field

from harness.cloud import document_vbr, document_vpn
from harness.cloud.build_data_centre import router_asn
from harness.cloud.build_resilience import compile_resilience
from harness.cloud.document import Built, Kind
from harness.cloud.document_links import LinkedForm
from harness.cloud.document_tree import Path
from harness.cloud.document_vbr_forms import FIELDS, WORDS, VbrForm
from harness.cloud.document_vpn import VpnForm
from harness.cloud.findings import Finding
from harness.cloud.resilience import ResilienceEstate, validate
from harness.cloud.vbr import VbrEstate
from harness.cloud.vpn import VpnEstate


class ResilienceForm(LinkedForm):
    """A data centre by an Express Connect circuit and by a VPN gateway."""

    name: str = Field("resilience", description="name of the lab")
    vbr: VbrForm = Field(description="the circuit's side, as in a document vbr; its VPC is the VPN gateway's")
    vpn_gateway: VpnForm = Field(description="the tunnels' side, as in a document vpn_gateway")


def build(form: ResilienceForm) -> Built[ResilienceEstate]:
    """The resources of a form. Never raises, whatever its texts say: they are for the rules to judge."""
    tunnels, circuit = document_vpn.build(form.vpn_gateway), document_vbr.build(form.vbr)
    title = f"{form.name}: a data centre by circuit and by VPN gateway"
    estate = ResilienceEstate(form.name, title, tunnels.estate, _met(form, circuit.estate, tunnels.estate))
    objects = dict(_below("vbr", circuit)) | dict(_below("vpn_gateway", tunnels))
    findings: tuple[Finding, ...] = (*tunnels.findings, *circuit.findings)
    return Built(estate, objects, findings)


def _met(form: ResilienceForm, vbr: VbrEstate, vpn: VpnEstate) -> VbrEstate:
    """The circuit's side with the VPC and the data centre of the other; a data centre that its user named is left as it is."""
    (centre,) = vpn.data_centres
    named = {each.data_centre for each in form.vbr.peers} | {each.data_centre for each in form.vbr.circuits}
    unnamed = {each.name for each in vbr.data_centres} - named - {each.name for each in form.vbr.data_centres}
    asn = router_asn(centre) if centre.devices else None
    sides = []
    for side in vbr.data_centres:
        if side.name in unnamed or side.name == centre.name:
            told = next((each for each in form.vbr.data_centres if each.name == side.name), None)
            own = told is not None and told.asn is not None
            side = replace(side, name=centre.name, blocks=centre.blocks, asn=side.asn if own or asn is None else asn)
        sides.append(side)
    circuits = tuple(
        replace(each, data_centre=centre.name) if each.data_centre in unnamed else each for each in vbr.circuits
    )
    vpcs = vpn.vpcs[:1]
    vbrs = tuple(replace(each, vpc=vpcs[0].name, region=vpcs[0].region) for each in vbr.vbrs)
    unique = {side.name: side for side in sides}
    return replace(vbr, vpcs=vpcs, vbrs=vbrs, circuits=circuits, data_centres=tuple(unique.values()))


def _below(key: str, built: Built[VbrEstate] | Built[VpnEstate]) -> Iterator[tuple[str, Path]]:
    for name, path in built.objects.items():
        yield name, (key, *path)


KIND: Kind[ResilienceForm, ResilienceEstate] = Kind(
    "resilience",
    "a data centre by an Express Connect circuit and by a VPN gateway",
    ResilienceForm,
    build,
    validate,
    compile_resilience,
    WORDS | document_vpn.WORDS,
    FIELDS | document_vpn.FIELDS,
)
