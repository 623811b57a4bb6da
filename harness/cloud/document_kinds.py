"""The kinds of documents that there are: what stands at a document's top, and what it becomes (``harness.cloud.document``)."""

from __future__ import annotations

from typing import Any

from harness.cloud import document_vbr, document_vpn
from harness.cloud.document import Kind

KINDS: dict[str, Kind[Any, Any]] = {kind.name: kind for kind in (document_vbr.KIND, document_vpn.KIND)}
