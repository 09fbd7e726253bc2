"""PageMap in JupyterLab: the canvas against the text twin, pointer, keys, themes, axe."""

import json
import re

import pytest

from kmemkit.views.palette import COLORS
from tests.ui.conftest import ROOT

SETUP = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
import ipywidgets
from kmemkit.views import PageMap
from tests.views.factory import big, mixed, replay, world
"""
#: Tells what Python knows, where the test can read it.
MIRROR = """
told = ipywidgets.Textarea()
def tell(*_):
    told.value = json.dumps({
        "text": v.text(), "selected": v.selected, "step": v.step,
        "line": v.line(v.selected if v.selected is not None else v._window().start),
    })
v.observe(tell, ["selected", "start", "span", "step"])
tell()
"""


def python(notebook):
    """What the mirror says."""
    return json.loads(notebook.page.locator("textarea").input_value())


def said(notebook, key, value):
    """Wait until the mirror says `value`."""
    notebook.page.wait_for_function(
        "([key, value]) => JSON.parse(document.querySelector('textarea').value)[key] === value",
        arg=[key, value],
    )


def drawn(view):
    """The characters on the canvas, as the drawing code put them there."""
    view.page.wait_for_function("view => Number(view.dataset.drawn) > 0", arg=view.element_handle())
    return view.evaluate("view => view.kmemkit.cells()")


def cells_of(text):
    """The rows of a text twin as one string, filled up with blanks at the end."""
    rows = re.findall(r"^0x[0-9a-f]+ [UMRHI ]{3} (.*?)(?:  \d+ % free)?$", text, re.M)
    return "".join(rows)


def letters_of(text):
    """The pageblock letters before each row of a text twin."""
    rows = re.findall(r"^0x[0-9a-f]+ ([UMRHI ]{3}) ", text, re.M)
    return [row.strip() for row in rows]


def settled(view):
    """Wait until the canvas stays as it is for three frames of the browser."""
    view.evaluate("""async view => {
        for (let still = 0, before; still < 3; ) {
            await new Promise(requestAnimationFrame);
            still = before && before === view.dataset.drawn ? still + 1 : 0;
            before = view.dataset.drawn;
        }
    }""")


def pixel(view, pfn, x, y):
    """The colour at a point of a page's cell (0 to 1 across and down), as #rrggbb."""
    red, green, blue = view.evaluate(
        """(view, [pfn, x, y]) => {
            const canvas = view.querySelector("canvas");
            const [left, top, width, height] = view.kmemkit.place(pfn);
            const ratio = window.devicePixelRatio;
            const [px, py] = [(left + x * width) * ratio, (top + y * height) * ratio];
            return [...canvas.getContext("2d").getImageData(px, py, 1, 1).data.slice(0, 3)];
        }""",
        [pfn, x, y],
    )
    return f"#{red:02x}{green:02x}{blue:02x}"


SOURCES = (
    "mixed()",
    "world(1000, [(5, 0, 8, 'a'), (512, 3, 9, 'b')], block_order=9, max_order=10)",
    "big(1 << 14)",
    "big(1 << 16)",
)


def test_canvas_is_the_text_twin(open_notebook):
    code = (
        SETUP
        + f"""
views = [PageMap(source) for source in ({", ".join(SOURCES)})]
told = ipywidgets.Textarea()
def tell(*_):
    told.value = json.dumps([[v.text(), v.span] for v in views])
for v in views: v.observe(tell, ["start", "span"])
tell()"""
    )
    notebook = open_notebook([code, "display(*views, told)"])
    for number in range(len(SOURCES)):
        view = notebook.view(number)
        settled(view)
        assert drawn(view).rstrip() == cells_of(python(notebook)[number][0])
        told_rows = letters_of(python(notebook)[number][0])
        rows = view.evaluate("view => view.kmemkit.letters()")
        assert any(rows)
        assert [(n, row) for n, row in enumerate(rows) if row is not None] == [
            (n, told_rows[n]) for n, row in enumerate(rows) if row is not None
        ]
        whole = python(notebook)[number][1]
        for _ in range(2):
            view.locator(".km-map").press("+")
        zoomed = "([view, whole]) => view.kmemkit.window().span < whole"
        notebook.page.wait_for_function(zoomed, arg=[view.element_handle(), whole])
        span = view.evaluate("view => view.kmemkit.window().span")
        notebook.page.wait_for_function(
            "([n, span]) => JSON.parse(document.querySelector('textarea').value)[n][1] === span",
            arg=[number, span],
        )
        # Python's answer to the zoom may come a while after the text.
        expected = cells_of(python(notebook)[number][0])
        notebook.page.wait_for_function(
            "([view, cells]) => view.kmemkit.cells().trimEnd() === cells",
            arg=[view.element_handle(), expected],
        )
    assert notebook.errors == []


def test_colours_letters_and_what_is_hollow(open_notebook):
    notebook = open_notebook([SETUP + "v = PageMap(mixed())", "v"])
    view = notebook.view()
    settled(view)
    corner = (0.12, 0.12)
    for pfn, name in (
        (0x0, "reserved"),
        (0x8, "unmovable"),
        (0x18, "reclaimable"),
        (0x60, "movable"),
    ):
        assert pixel(view, pfn, *corner) == COLORS[name]
    assert pixel(view, 0x90, 0.5, 0.5) not in COLORS.values(), "a free block is hollow"
    assert pixel(view, 0x90, 0.5, 2 / 26) == COLORS["movable"], "its outline is its pageblock's"
    stripes = {pixel(view, 0x12, x / 20, 0.1) for x in range(2, 19)}
    assert len(stripes) > 1, "a per-CPU list is striped"
    assert "Movable 34" in view.locator(".km-legend").inner_text()


def test_changes_of_a_kernel_arrive_and_the_last_state_stays(open_notebook):
    notebook = open_notebook(
        [
            SETUP
            + "from kmemkit import Kernel\nk = Kernel(ram='4M')\nv = PageMap(k)"
            + MIRROR
            + "display(v, told)",
            "for n in range(3000):\n"
            "    pfn = k.alloc_pages('GFP_NOWAIT', n % 4, owner='driver')\n"
            "    if n % 3 and pfn is not None: k.free_pages(pfn, n % 4)\n"
            "tell()",
        ]
    )
    view = notebook.view()
    notebook.page.wait_for_function(
        "() => document.querySelector('textarea').value.includes('driver')"
    )
    notebook.page.wait_for_timeout(300)
    settled(view)
    assert drawn(view).rstrip() == cells_of(python(notebook)["text"])
    assert "owner driver" in view.locator(".km-legend").inner_text()


def test_click_selects_and_shows_the_buddy(open_notebook):
    notebook = open_notebook([SETUP + f"v = PageMap(mixed()){MIRROR}", "display(v, told)"])
    view = notebook.view()
    settled(view)
    before = view.locator(".km-overlay").screenshot()
    left, top, width, height = view.evaluate("view => view.kmemkit.place(0x50)")
    place = {"x": left + width / 2, "y": top + height / 2}
    view.locator(".km-map").click(position=place)
    said(notebook, "selected", 0x50)
    line = view.locator(".km-line").inner_text()
    assert line == python(notebook)["line"]
    assert "order 4 = 16 pages = 64 kB · Movable pageblock · buddy 0x40: allocated Movable" in line
    assert view.locator(".km-overlay").screenshot() != before
    view.locator(".km-map").click(position=place)
    said(notebook, "selected", None)


def test_line_tells_of_a_page_that_was_selected_elsewhere(open_notebook):
    code = f"v = PageMap(world(64, types='EMMEMMUU', block_order=3, max_order=4)){MIRROR}"
    notebook = open_notebook([SETUP + code, "display(v, told)", "v.selected = 0x18"])
    view = notebook.view()
    settled(view)
    view.locator(".km-line").filter(has_text="pfn 0x18 ").wait_for()
    assert view.locator(".km-line").inner_text() == python(notebook)["line"]


def test_keyboard_moves_the_cursor_and_selects(open_notebook):
    code = (
        SETUP + "v = PageMap(mixed())\nprint(json.dumps([v.line(n) for n in range(256)]))" + MIRROR
    )
    notebook = open_notebook([code, "display(v, told)"])
    view = notebook.view()
    settled(view)
    output = notebook.page.locator(".jp-OutputArea-output pre").first.inner_text()
    lines = json.loads(output)
    frame, line = view.locator(".km-map"), view.locator(".km-line")
    frame.focus()
    keys = [
        ("ArrowRight", 1), ("ArrowDown", 33), ("ArrowLeft", 32), ("End", 63), ("ArrowDown", 95),
        ("Home", 64), ("Control+End", 255), ("ArrowUp", 223), ("ArrowDown", 255), ("ArrowRight", 255),
        ("Control+Home", 0), ("ArrowUp", 0),
    ]  # fmt: skip
    for key, pfn in keys:
        frame.press(key)
        assert line.inner_text() == lines[pfn], key
    for key in (*["ArrowRight"] * 9, "Enter"):
        frame.press(key)
    said(notebook, "selected", 9)
    frame.press("Space")
    said(notebook, "selected", None)
    assert notebook.page.locator(".jp-Notebook.jp-mod-commandMode, .jp-Notebook").first.is_visible()
    assert notebook.errors == []


def test_zoom_pan_and_page_keys(open_notebook):
    notebook = open_notebook([SETUP + f"v = PageMap(big(1 << 14)){MIRROR}", "display(v, told)"])
    view = notebook.view()
    settled(view)
    frame = view.locator(".km-map")
    assert view.get_by_role("button", name="Zoom out").is_disabled()
    for _ in range(3):
        view.get_by_role("button", name="Zoom in").click()
        settled(view)
    assert "shown: pfn 0x0 to 0x7ff, 2,048 pages = 8 MiB" in view.inner_text()
    frame.press("PageDown")
    settled(view)
    assert "shown: pfn 0x800 to 0xfff" in view.inner_text()
    view.get_by_role("button", name="Higher pages").click()
    settled(view)
    assert "shown: pfn 0xc00 to 0x13ff" in view.inner_text()
    for _ in range(2):
        frame.press("+")
    settled(view)
    assert view.evaluate("view => view.kmemkit.window().span") == 512
    assert view.get_by_role("button", name="Zoom in").is_disabled(), "one pageblock is the smallest"


def test_history_scrubs(open_notebook):
    code = (
        SETUP
        + """
steps = [world(64, [(n, 0, 8, "driver") for n in range(used)]) for used in range(4)]
v = PageMap(history=replay(*steps))"""
        + MIRROR
    )
    notebook = open_notebook([code, "display(v, told)"])
    view = notebook.view()
    settled(view)
    assert drawn(view).startswith("UUU0")
    for _ in range(2):
        view.get_by_role("button", name="Step back").click()
    said(notebook, "step", 1)
    settled(view)
    assert drawn(view).startswith("U01")
    assert "step 1 of 3: alloc_pages(GFP_KERNEL, 1) → pfn 0x1" in view.inner_text()
    view.get_by_role("slider").press("Home")
    said(notebook, "step", 0)
    assert view.get_by_role("button", name="Step back").is_disabled()


def test_text_twin_can_be_opened(open_notebook):
    notebook = open_notebook([SETUP + f"v = PageMap(mixed()){MIRROR}", "display(v, told)"])
    view = notebook.view()
    view.get_by_text("The map as text").click()
    notebook.page.wait_for_function("() => document.querySelector('.km-text').textContent")
    assert view.locator(".km-text").text_content() == python(notebook)["text"]


def test_themes_and_accessibility(open_notebook):
    code = SETUP + "v = PageMap(mixed(scaled=('no per-CPU lists',)), selected=0x44)\nv"
    notebook = open_notebook([code])
    view = notebook.view()
    settled(view)
    for theme in notebook.themes():
        notebook.screenshot(f"page-map-{theme}", of=view)
        light = int(pixel(view, 0xA0, 0.5, 0.3)[1:3], 16)
        brightness = light < 64 if theme == "dark" else light > 192
        assert brightness, f"{theme}: a free block has the page's own brightness, not {light}"
        assert notebook.axe() == "", theme
    unshielded = view.evaluate("""view => [...view.querySelectorAll("*")].filter(node =>
        node.tabIndex >= 0 && node.dataset.lmSuppressShortcuts !== "true").map(node => node.outerHTML)""")
    assert unshielded == []
    assert (
        view.get_by_role("application").get_attribute("aria-label").startswith("Page map: Zone N")
    )
    assert notebook.errors == []
    view.evaluate("view => view.style.setProperty('--km-quiet', 'rgb(128 128 128 / 40%)')")
    assert "color-contrast" in notebook.axe(), "axe has to measure contrast at all"


def test_every_size_fits_and_has_letters(open_notebook):
    sizes = (64, 1024, 1 << 18, 1 << 20)
    code = (
        SETUP
        + f"""
used = [(n, 0, 8, "driver") for n in range(0, 60, 3)]
display(*[PageMap(big(n) if n > 1024 else world(n, used)) for n in {sizes}])"""
    )
    notebook = open_notebook([code], height=3200)
    for number, pages in enumerate(sizes):
        view = notebook.view(number)
        settled(view)
        notebook.screenshot(f"page-map-{pages}", of=view)
        canvas = view.locator("canvas").first.bounding_box()
        assert canvas["width"] <= view.bounding_box()["width"]
        assert 60 < canvas["height"] < 900
        assert set(drawn(view)) & set("Um")


def test_dots_where_cells_have_no_room(open_notebook):
    notebook = open_notebook([SETUP + "v = PageMap(big(1 << 20), width=1024)\nv"], height=1600)
    view = notebook.view()
    settled(view)
    notebook.screenshot("page-map-dots", of=view)
    assert "A dot is 1 page = 4 kB, too small for a letter." in view.inner_text()
    assert view.evaluate("view => view.kmemkit.window().rows") == 1024
    view.locator(".km-map").hover(position={"x": 400, "y": 300})
    assert view.locator(".km-line").inner_text().startswith("pfn 0x")


def test_sharp_on_a_dense_screen(open_notebook):
    notebook = open_notebook([SETUP + "v = PageMap(mixed())\nv"], device_scale_factor=2)
    view = notebook.view()
    settled(view)
    ratio = view.evaluate(
        "view => { const c = view.querySelector('canvas'); return c.width / c.clientWidth; }"
    )
    assert ratio == pytest.approx(2, abs=0.01)
    assert pixel(view, 0x8, 0.12, 0.12) == COLORS["unmovable"]


def test_narrow_page_scrolls_to_the_cursor(open_notebook):
    code = SETUP + "v = PageMap(world(1024, block_order=9, max_order=10))\nv"
    notebook = open_notebook([code], width=640)
    view = notebook.view()
    settled(view)
    frame = view.locator(".km-map")
    assert frame.evaluate("frame => frame.scrollWidth > frame.clientWidth")
    frame.press("End")
    assert frame.evaluate("frame => frame.scrollLeft") > 0
    frame.press("Home")
    assert frame.evaluate("frame => frame.scrollLeft") == 0
    assert notebook.axe() == ""
