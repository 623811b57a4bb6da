"""The kinds of documents that there are: what stands at a document's top, and what it becomes (``harness.cloud.document``)."""

from __future__ import annotations

from typing import Any

from harness.cloud import document_ipsec, document_resilience, document_vbr, document_vpn
from harness.cloud.document import Kind

_KINDS: tuple[Kind[Any, Any], ...] = (
    document_vbr.KIND,
    document_ipsec.KIND,
    document_vpn.KIND,
    document_resilience.KIND,
)
KINDS: dict[str, Kind[Any, Any]] = {kind.name: kind for kind in _KINDS}
