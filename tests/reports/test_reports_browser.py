"""The page in a real browser: nothing fails, nothing is logged, nothing sticks out, on a desk and on a telephone, light and dark."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reports import page
from tests.reports.chromium import BINARY, Browser
from tests.reports.test_reports_page import hostile_run

pytestmark = pytest.mark.skipif(not os.access(BINARY, os.X_OK), reason=f"Debian's chromium is not installed ({BINARY})")

UNFOLD = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
# What lies right of the window's edge though no scrolling box of its own holds it.
STICKING_OUT = """[...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll, pre, .skip-link')
  && e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 120))"""
SCREENS = [(width, dark) for width in (1280, 400) for dark in (False, True)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium") / "profile") as opened:
        yield opened


@pytest.fixture(autouse=True)
def untroubled(browser: Browser) -> Iterator[None]:
    browser.trouble.clear()
    browser.requested.clear()
    yield
    assert browser.trouble == []


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_page_fits_and_loads_nothing_but_itself(browser: Browser, written: Path, width: int, dark: bool) -> None:
    browser.screen(width, dark=dark)
    browser.open(written)
    for _ in ("folded", "unfolded"):
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.evaluate(STICKING_OUT) == []
        browser.evaluate(UNFOLD)
    assert {url for url in browser.requested if not url.startswith(("data:", "about:"))} == {written.as_uri()}
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(15, 18, 22)" if dark else "rgb(246, 247, 248)")


@pytest.mark.parametrize("width", [1280, 400])
def test_every_list_of_links_has_room_for_words(browser: Browser, written: Path, width: int) -> None:
    """Route tables, which have a verdict before the link, and what was seen, which has none."""
    browser.screen(width)
    browser.open(written)
    for section in ("tables", "seen"):
        heights = (
            f"[...document.querySelectorAll('#{section} .index li')].map((li) => li.getBoundingClientRect().height)"
        )
        assert 0 < max(browser.evaluate(heights)) < 120


@pytest.mark.parametrize(("width", "shown"), [(1280, "wide"), (400, "narrow")])
def test_a_screen_gets_the_charts_drawn_for_it(browser: Browser, written: Path, width: int, shown: str) -> None:
    browser.screen(width)
    browser.open(written)
    visible = "(c) => [...document.querySelectorAll(`#load .${c}, #failover .${c}`)].filter((e) => e.clientHeight > 50).length"
    assert browser.evaluate(f"({visible})('{shown}')") == 2
    assert browser.evaluate(f"({visible})('{'wide' if shown == 'narrow' else 'narrow'}')") == 0


def test_chart_text_keeps_a_readable_size_on_a_telephone(browser: Browser, written: Path) -> None:
    browser.screen(400)
    browser.open(written)
    heights = "[...document.querySelectorAll('#load .narrow text')].map((t) => t.getBoundingClientRect().height)"
    assert min(browser.evaluate(heights)) >= 9


def test_a_deep_link_unfolds_its_test(browser: Browser, written: Path) -> None:
    browser.screen(1280)
    browser.open(written, "#req-ECMP-25")
    assert browser.evaluate("document.getElementById('req-ECMP-25').checkVisibility()")
    browser.evaluate("location.hash = '#test-test-ipsec-ecmp-py-test-load'")
    opened = "new Promise((done) => requestAnimationFrame(() => done(document.getElementById('test-test-ipsec-ecmp-py-test-load').open)))"
    assert browser.evaluate(opened)


def test_filter_counts_and_hides(browser: Browser, written: Path) -> None:
    browser.screen(1280)
    browser.open(written)
    typed = "const i = document.querySelector('[type=search]'); i.value = 'ECMP-24'; i.dispatchEvent(new Event('input', {bubbles: true}))"
    browser.evaluate(f"(() => {{ {typed} }})()")
    assert browser.evaluate("document.querySelector('output').value") == "3 of 60"
    assert (
        browser.evaluate("[...document.querySelectorAll('details.test')].filter((t) => t.checkVisibility()).length")
        == 3
    )


def test_layers_of_the_drawing_can_be_switched_off_by_keyboard(browser: Browser, written: Path) -> None:
    browser.screen(1280)
    browser.open(written)
    display = "getComputedStyle(document.querySelector('#topology .layer-sessions')).display"
    assert browser.evaluate(display) == "inline"
    browser.evaluate("document.querySelector('#topology .switch-sessions').focus()")
    for kind in ("rawKeyDown", "char", "keyUp"):
        text = {"text": " "} if kind == "char" else {}
        browser.call("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", windowsVirtualKeyCode=32, **text)
    assert browser.evaluate(display) == "none"


def test_paper_is_white_and_shows_everything(browser: Browser, written: Path) -> None:
    browser.screen(800, dark=True, media="print")
    browser.open(written)
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(23, 26, 33)"
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.evaluate("document.documentElement.scrollWidth") == 800
    assert browser.evaluate("document.querySelectorAll('details:not([open])').length") == 0


def test_hostile_words_do_nothing(browser: Browser, tmp_path: Path) -> None:
    browser.screen(400)
    browser.open(page.write(hostile_run(tmp_path)))
    browser.evaluate(UNFOLD)
    assert browser.evaluate("typeof hacked") == "undefined"
    assert browser.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.parametrize("name", ["spread-1", "failover-1", "topology-1", "timeline-3", "stages-2"])
def test_charts_beside_the_page_stand_alone(browser: Browser, written: Path, name: str) -> None:
    browser.screen(1000, dark=True)
    browser.open(written.parent / "files" / f"{name}.svg")
    assert browser.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(23, 27, 33)"
    assert browser.evaluate("document.documentElement.getBoundingClientRect().width") > 500
