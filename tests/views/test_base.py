"""The contract of all views: following, coalesced sending, printing, palette and stylesheet."""

import asyncio
import re
from itertools import pairwise
from pathlib import Path

import pytest

import kmemkit.views
from kmemkit.snapshot import MIGRATE_NAMES
from kmemkit.views import PageMap, _base, palette
from kmemkit.views._base import FRAME, Outbox, esm
from tests.views.elsewhere import elsewhere
from tests.views.factory import mixed, world

STATIC = Path(_base.__file__).parent / "static"


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Kernel:
    """The least that a view can follow."""

    def __init__(self, state):
        self.listeners = []
        self.state = state

    def snapshot(self):
        return self.state

    def change(self, state):
        self.state = state
        for listener in list(self.listeners):
            listener()

    def add_listener(self, listener):
        self.listeners.append(listener)

    def remove_listener(self, listener):
        self.listeners.remove(listener)


@pytest.fixture
def no_waiting(monkeypatch):
    """Views send at once, whether or not a loop happens to run here."""
    monkeypatch.setattr(_base, "FRAME", 0.0)


def test_outbox_sends_at_once_then_once_a_frame_and_the_last_state_always():
    clock, sent, state = Clock(), [], [0]

    async def calls():
        loop = asyncio.get_running_loop()
        outbox = Outbox(lambda: sent.append(state[0]), clock)
        for n in range(100):
            state[0] = n
            outbox.request()
        assert sent == [0]
        timer = outbox._timer
        assert 0 < timer.when() - loop.time() <= FRAME
        while not timer.cancelled() and len(sent) == 1:
            await asyncio.sleep(FRAME)
        assert sent == [0, 99]

    elsewhere(asyncio.run, calls())


def test_outbox_of_a_busy_cell_sends_without_the_blocked_loop():
    clock, sent = Clock(), []

    async def calls():
        outbox = Outbox(lambda: sent.append(clock.now), clock)
        for _ in range(1000):
            outbox.request()
            clock.now += FRAME / 10
        outbox.cancel()

    elsewhere(asyncio.run, calls())
    gaps = [after - before for before, after in pairwise(sent)]
    assert len(sent) == pytest.approx(100, abs=2)
    assert min(gaps) > FRAME * 0.999


def test_outbox_without_a_loop_sends_every_request():
    sent = []
    outbox = Outbox(lambda: sent.append(1), Clock())
    for _ in range(3):
        elsewhere(outbox.request)
    assert len(sent) == 3


def test_follow_shows_each_change_and_stops(no_waiting):
    kernel = Kernel(world(64))
    view = PageMap(kernel)
    kernel.change(mixed())
    assert view.snapshot is kernel.state
    assert view._extent == [0, 256]
    view.unfollow()
    kernel.change(world(64))
    assert view.snapshot is not kernel.state
    assert kernel.listeners == []


def test_close_unfollows():
    kernel = Kernel(world(64))
    view = PageMap(kernel)
    view.close()
    view.close()
    assert kernel.listeners == []


def test_following_twice_listens_once():
    kernel = Kernel(world(64))
    view = PageMap(kernel)
    view.follow(kernel)
    assert len(kernel.listeners) == 1


def test_source_of_another_type_is_refused():
    with pytest.raises(TypeError, match="shows a Snapshot or follows a Kernel, not .* type int"):
        PageMap(64)


def test_unknown_keyword_is_named_with_those_accepted():
    with pytest.raises(
        TypeError, match=r"PageMap does not know 'colour'; it accepts: source, zone"
    ):
        PageMap(mixed(), colour="red")


def test_mimebundle_has_the_text_twin_and_repr_has_no_address():
    view = PageMap(mixed())
    data, _ = view._repr_mimebundle_()
    assert data["text/plain"] == view.text()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert repr(view) == repr(PageMap(mixed())) == "PageMap(Normal, 256 pages, 190 free)"


def test_joined_module_has_one_default_export_and_no_imports():
    module = esm("common.js", "page_columns.js", "page_inks.js", "page_map.js")
    assert len(re.findall(r"^export ", module, re.M)) == 1
    assert not re.search(r"^import ", module, re.M)


def test_imports_of_static_modules_are_on_one_line_each():
    for path in STATIC.glob("*.js"):
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("import "):
                assert line.endswith(";"), f"{path.name}: {line}"


def test_views_load_by_name_only():
    assert set(kmemkit.views.__all__) == set(dir(kmemkit.views))
    with pytest.raises(AttributeError, match="has no attribute 'PageMop'"):
        kmemkit.views.PageMop


def test_white_letters_are_legible_on_every_colour():
    assert {
        name: c for name, c in palette.COLORS.items() if palette.contrast(c, "#ffffff") < 4.5
    } == {}
    assert len(set(palette.COLORS.values())) == len(palette.COLORS)
    assert len(palette.MIGRATE_COLORS) == len(palette.TYPE_LETTERS) == len(MIGRATE_NAMES)


def test_contrast_is_that_of_wcag():
    assert palette.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert palette.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_darken_stops_at_the_first_legible_shade():
    assert palette.darken("#0072b2") == "#0072b2"
    assert palette.contrast(palette.darken("#f0e442"), "#ffffff") == pytest.approx(4.5, abs=0.03)
    assert palette.darken("#ffffff", 22) == "#000000"


def test_stylesheet_repeats_the_palette():
    css = (STATIC / "kmemkit.css").read_text("utf-8")
    colors = dict(re.findall(r"--km-(\w+): (#\w{6});", css))
    assert colors == palette.COLORS
