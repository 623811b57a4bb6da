"""The page: complete, self-contained, linked, safe from its data, and the same each time."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reports import page, svg
from reports.model import Attachment, Evidence, Item, Result, Run, RunFolder, Table, Values
from tests.reports import example_run
from tests.reports.example_items import grid, sequence

HOSTILE = "</style></script><script>hacked=1</script><img src=x onerror=hacked=1>\"'{{7*7}}{% x %}$a_b$\\1&amp;"
LINKS = {"href", "src", "xlink:href", "action", "data", "poster", "srcset"}
VOID = {"meta", "link", "input", "br", "img", "hr"}


class Document(HTMLParser):
    """Every element of a page with its attributes and the ids of what it stands in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self.text = ""
        self._open: list[tuple[str, str]] = []
        self.feed(text)
        assert self._open == [], f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        self.elements.append((tag, attributes, tuple(i for _, i in self._open if i)))
        if tag not in VOID:
            self._open.append((tag, attributes.get("id", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}, tuple(i for _, i in self._open if i)))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"<{opened}> closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        self.text += data

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes, _ in self.elements if "id" in attributes]


@pytest.fixture(scope="module")
def document(written: Path) -> Document:
    return Document(written.read_text())


def test_every_id_is_there_once_and_every_link_inside_leads_somewhere(document: Document) -> None:
    ids = document.ids()
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for _, a, _ in document.elements if a.get("href", "").startswith("#")}
    assert targets <= set(ids)


def test_nothing_comes_from_a_network_and_every_file_exists(document: Document, written: Path) -> None:
    files = set()
    for tag, attributes, _ in document.elements:
        assert tag not in {"iframe", "object", "embed", "img", "base"}
        for name in LINKS & attributes.keys():
            link = attributes[name]
            if not link.startswith(("#", "data:,")):
                files.add(link)
    assert files and all((written.parent / link).is_file() for link in files)
    assert "@import" not in written.read_text()
    assert "url(" not in page._source("style.css") + svg.rules()


def test_every_item_stands_under_its_test(document: Document, written: Path) -> None:
    folder = RunFolder(written.parent)
    places = {attributes["id"]: inside for _, attributes, inside in document.elements if "id" in attributes}
    taken: set[str] = set()
    anchors = {result.nodeid: page._anchor(result.nodeid, taken) for result in folder.read_run().results}
    for number, evidence in enumerate(folder.evidence(), 1):
        if evidence.test:
            assert anchors[evidence.test] in places[f"{evidence.item.kind}-{number}"]


def test_verdicts_failures_and_requirements_are_told(document: Document) -> None:
    for words in (
        "1 of 60 tests failed",
        "14 of 15 requirements that this run covers are met.",
        "25 of 26 route tables",
        "AssertionError: 2 rows differ; waited 2.000 s",
        "not in the document",
        "Not covered by this run: 42 of VBR",
        "BFD comes with a later version of the speaker (1)",
        "libipsec (the kernel has no xfrm)",
        "retransmit limit reached, CHILD_SA removed",
        "a kernel with CONFIG_XFRM_USER",
    ):
        assert words in document.text
    assert "req-ECMP-25" in document.ids()


def test_failed_tests_are_unfolded_and_only_those(document: Document) -> None:
    unfolded = [
        a["data-outcome"] for tag, a, _ in document.elements if tag == "details" and "data-outcome" in a and "open" in a
    ]
    assert unfolded == ["failed"]


def test_it_is_written_in_time_and_is_not_too_large(tmp_path: Path) -> None:
    """The budget is 2 s of a quiet machine; processor time, and twice that for a busy one."""
    folder = example_run.write(tmp_path / "r")
    began = time.process_time()
    path = page.write(folder)
    assert time.process_time() - began < 4.0
    assert path.stat().st_size < 3_000_000


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = example_run.write(tmp_path / "r", tests=20)

    def all_bytes() -> dict[str, bytes]:
        page.write(folder)
        return {str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    assert all_bytes() == all_bytes()


def poisoned(value: Any) -> Any:
    """The same evidence with hostile words in every string, keys of mappings included."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: poisoned(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if "path" in fields:
            fields["path"] = f"files/{HOSTILE.replace('/', '')}"
        return type(value)(**fields)
    if isinstance(value, str):
        return f"{value}{HOSTILE}"
    if isinstance(value, Mapping):
        plain = {"t", "state", "event", "reason", "label", "name", "role", "group", "addresses", "a", "b", "a_if", "b_if", "kind",
                 "node", "by", "text", "sender", "title", "details", "flows", "packets", "bytes", "sa_bytes", "asn"}  # fmt: skip
        return {key if key in plain else f"{key}{HOSTILE}": poisoned(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(poisoned, value))
    return value


def hostile_run(path: Path) -> RunFolder:
    """FIXTURE: the example run with every string poisoned."""
    source = example_run.write(path / "source", tests=16)
    folder = RunFolder(path / "hostile")
    for evidence in source.evidence():
        bad: Evidence = poisoned(evidence)
        folder.add(bad.item, bad.test if evidence.test else "")
    run: Run = poisoned(source.read_run())
    results = tuple(
        dataclasses.replace(bad, outcome=good.outcome)
        for bad, good in zip(run.results, source.read_run().results, strict=True)
    )
    folder.write_run(dataclasses.replace(run, results=results))
    return folder


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    text = page.write(hostile_run(tmp_path)).read_text()
    document = Document(text)
    assert [tag for tag, _, _ in document.elements].count("script") == 1
    for tag, attributes, _ in document.elements:
        assert tag not in {"img", "iframe", "b>"}
        assert not any(name.startswith("on") for name in attributes)
    assert "{{7*7}}" in document.text
    assert "hacked=1" in document.text
    assert "{{ " not in document.text


@pytest.mark.parametrize(
    "path",
    ["javascript:alert(1)", "../secret", "files/way-out", "/etc/passwd", "files/absent", "files", "\x00", "x" * 5000],
)
def test_only_files_of_the_run_are_linked(tmp_path: Path, path: str) -> None:
    folder = RunFolder(tmp_path / "r")
    (tmp_path / "secret").write_text("not of this run")
    (folder.files / "way-out").symlink_to(tmp_path / "secret")
    folder.add(Attachment("log", path), "t")
    links = [a["href"] for _, a, _ in Document(page.write(folder).read_text()).elements if "href" in a]
    assert not [link for link in links if not link.startswith(("#", "data:,"))]


def test_a_link_survives_odd_file_names(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    (folder.files / "a #1?%.log").write_text("x")
    folder.add(Attachment("log", "files/a #1?%.log"), "t")
    assert 'href="./files/a%20%231%3F%25.log"' in page.write(folder).read_text()


def test_a_killed_run_shows_what_it_had(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    item: Item = Values("negotiated", (("IKE", "2", ""),))
    folder.add(item, "labs/test_a.py::test_x")
    text = Document(page.write(folder).read_text()).text
    assert "No test ran to its end" in text
    assert "the run ended before the test did" in text
    assert "negotiated" in text


def test_an_empty_run_is_a_page(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    folder.write_run(Run("r", "", 0.0, "", {}, (), ()))
    assert "No test ran to its end" in page.write(folder).read_text()


def test_a_test_that_ran_twice_shows_its_evidence_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    folder.add(Values("negotiated", ()), "labs/test_a.py::test_x")
    result = Result("labs/test_a.py::test_x", "", "passed", 0.0)
    folder.write_run(Run("r", "", 0.0, "", {}, (), (result, result)))
    ids = Document(page.write(folder).read_text()).ids()
    assert ids.count("values-1") == 1 and len(ids) == len(set(ids))


def test_two_tests_of_one_word_have_two_anchors(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    results = tuple(Result(f"labs/test_a.py::test[{mark}]", "", "passed", 0.0) for mark in ("a b", "a-b", "é"))
    folder.write_run(Run("r", "", 0.0, "", {}, (), results))
    anchors = [i for i in Document(page.write(folder).read_text()).ids() if i.startswith("test-")]
    assert len(set(anchors)) == 3


def test_a_grid_has_its_cells_and_its_note(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    folder.add(grid(), "labs/test_a.py::test_x")
    text = Document(page.write(folder).read_text()).text
    for words in (
        "What was seen",
        "2 rows",
        "A table of states",
        "What happens",
        "0.001 → SYN",
        "← from the data centre",
    ):
        assert words in text


def test_tables_that_came_out_alike_are_one_line_and_each_that_differs_is_its_own(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    right, wrong = (("10.0.0.0/8",),), (("11.0.0.0/8",),)
    for rows in (right, right, wrong, right, wrong):
        folder.add(Table("Table 9", "gw1", ("Block",), right, rows, rows == right), "labs/test_a.py::test_x")
    text = Document(page.write(folder).read_text()).text
    index = text.partition("Each line leads to")[2].partition("Tests and evidence")[0]
    assert (index.count("3 times 1 entry, all equal"), index.count("2 rows differ")) == (1, 2)
    assert "3 of 5 route tables" in text


def test_a_sequence_is_drawn_with_its_fields_and_its_capture(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (folder.files / "ipsec-ecmp").mkdir(parents=True)
    (folder.files / "ipsec-ecmp" / "internet.pcap").write_bytes(b"fixture")
    folder.add(sequence(), "labs/test_a.py::test_x")
    text = page.write(folder).read_text()
    for words in (
        "NOTIFICATION 6/2 Cease",
        "my AS 65531",
        "12 KEEPALIVE in 60.000 s",
        "files/ipsec-ecmp/internet.pcap",
    ):
        assert words in text
    assert (folder.files / "sequence-1.svg").read_text().startswith("<svg")


def test_benchmarks_that_lie_beside_the_run_are_in_its_page(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    rows = [
        {
            "name": "loads",
            "unit": "s",
            "ours": 2.0,
            "rivals": {"BIRD": 1.0, "FRR": None},
            "bar": "≤ 1 × BIRD",
            "ok": False,
        },
        {"name": "rates", "unit": "1/s", "ours": 300.0, "rivals": {"BIRD": 100.0}, "bar": None, "ok": None},
        {"name": "a part", "unit": "s", "ours": 1.0, "rivals": {}, "bar": None, "ok": None},
        *(
            {"name": f"{n:,} speakers, CPU time", "unit": "s", "ours": n / 8, "rivals": {}, "bar": None, "ok": None}
            for n in (8, 64, 1000)
        ),
    ]
    assert "Benchmarks beside" not in page.write(folder).read_text()
    (tmp_path / "bench.json").write_text(json.dumps(rows))
    text = page.write(folder).read_text()
    assert "loads: BIRD 0.5 times; rates: BIRD 3 times" in text
    assert "loads, bar ≤ 1 × BIRD</dt><dd>2 s: missed" in text
    assert "a part" not in text
    assert "Stars of speakers, CPU time (s): 1 at 8 nodes, 8 at 64 nodes, 125 at 1,000 nodes." in text
    assert (folder.files / "benchmarks-1.svg").exists()
