"""SlabMap in JupyterLab: the canvas against the words, pointer, keys, bytes, themes, axe."""

import json

from tests.ui.asking import python, says

SETUP = """
from kmemkit import Kernel, SlabMap
def some(count, size=100, cmdline="", **options):
    kernel = Kernel("256M", cmdline=cmdline, seed=3, **options)
    cache = kernel.kmem_cache_create("foo", size)
    live = [kernel.kmem_cache_alloc(cache, "GFP_KERNEL") for _ in range(count)]
    for obj in live[::3]:
        kernel.kmem_cache_free(cache, obj)
    return kernel, cache, live
def cells(view):
    from kmemkit.views._slab_text import _cell
    model = view.model()
    return {hex(model.address(n, i)): _cell(word, True).replace("'", "")
            for n, state in enumerate(model.states) for i, word in enumerate(state.words)}
"""
VIEW = SETUP + "kernel, cache, live = some(50)\nview = SlabMap(kernel, cache)\nview"
DEBUG = SETUP + (
    "kernel, cache, live = some(50, cmdline='slab_debug=FZPU')\n"
    "kernel.write(live[1] + 98, b'abcd')\nview = SlabMap(kernel, cache)\nview"
)


def opened(notebook, number=0):
    view = notebook.page.locator(".km-slab").nth(number)
    notebook.page.wait_for_function(
        "number => Number(document.querySelectorAll('.km-slab')[number]?.dataset.drawn) > 0",
        arg=number,
    )
    return view


def settled(view):
    """Wait until the canvas stays as it is for three frames of the browser."""
    view.evaluate("""async view => {
        for (let still = 0, before; still < 3; ) {
            await new Promise(requestAnimationFrame);
            still = before && before === view.dataset.drawn ? still + 1 : 0;
            before = view.dataset.drawn;
        }
    }""")


def drawn(view):
    return dict(view.evaluate("view => view.kmemkit.cells()"))


def told(notebook):
    """What Python says stands in each cell."""
    return json.loads(python(notebook, "__import__('json').dumps(cells(view))"))


def place(view, address):
    """The middle of an object's cell, relative to the map."""
    left, top, width, height = view.evaluate(
        "(view, address) => view.kmemkit.place(address)", address
    )
    return {"x": left + width / 2, "y": top + height / 2}


def address_of(notebook, expression):
    return hex(int(python(notebook, expression)))


def test_canvas_is_what_python_says_also_after_changes(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    settled(view)
    assert drawn(view) == told(notebook)
    for act in (
        "kernel.kmem_cache_free(cache, live[1])",
        "[kernel.kmem_cache_alloc(cache, 'GFP_KERNEL') for _ in range(9)]",
        "[kernel.kmem_cache_alloc(cache, 'GFP_KERNEL') for _ in range(60)]",
        "kernel.write(live[1] + view.model().cache.offset, b'x' * 8)",
        "kernel.kmem_cache_shrink(cache)",
    ):
        python(notebook, act)
        notebook.page.wait_for_timeout(60)
        settled(view)
        assert drawn(view) == told(notebook), act
    use = python(notebook, "'{inuse} of {objects} objects in use'.format(**view.model().counts)")
    assert use in view.inner_text()
    assert notebook.errors == []


def test_pointer_says_what_is_under_it_and_a_click_shows_its_bytes(open_notebook):
    notebook = open_notebook([DEBUG])
    view = opened(notebook)
    settled(view)
    for obj in ("live[1]", "live[0]", "live[40]"):
        at = address_of(notebook, obj)
        view.locator(".km-slab-map").hover(position=place(view, at))
        says(notebook, view.locator(".km-line"), f"view.line({obj})")
    victim = address_of(notebook, "live[1]")
    view.locator(".km-slab-map").click(position=place(view, victim))
    rows = view.locator(".km-slab-dump tr")
    rows.first.wait_for()
    assert python(notebook, "view.selected == live[1]") == "True"
    assert view.locator(".km-bad").all_inner_texts() == ["63", "64"]
    view.get_by_text("✗ damaged: 2 of 4 bytes; at +0x64 is 0x63, not 0xcc").wait_for()
    shown = [" ".join(text.split()) for text in view.locator(".km-slab-hex").all_inner_texts()]
    there = python(notebook, "[' '.join(row['hex']) for row in view._bytes if row['hex']]")
    assert shown == eval(there)
    view.get_by_role("button", name="Close").click()
    rows.first.wait_for(state="hidden")
    assert python(notebook, "view.selected") == "None"


def test_by_keyboard_alone(open_notebook):
    notebook = open_notebook([VIEW])
    view = opened(notebook)
    settled(view)
    frame, line = view.locator(".km-slab-map"), view.locator(".km-line")
    frame.focus()

    def at(index, group=0):
        says(
            notebook,
            line,
            f"view.line(view.model().address(view.model().groups[{group}].slabs[0], {index}))",
        )

    at(0)
    for key, index in (("ArrowRight", 1), ("End", 38), ("ArrowLeft", 37), ("Home", 0)):
        frame.press(key)
        at(index)
    frame.press("ArrowDown")
    at(0, 1)
    frame.press("ArrowUp")
    at(0, 0)
    frame.press("End")
    frame.press("ArrowRight")
    at(0, 1)
    frame.press("Control+Home")
    at(0, 0)
    # Along the free list: from number 1 to number 2.
    order = eval(python(notebook, "[list(v.lists[0].objects) for v in view.model().states]"))
    slab = int(python(notebook, "view.model().groups[0].slabs[0]"))
    base = int(python(notebook, f"view.model().address({slab}, 0)"))
    first, second = [(one - base) // 104 for one in order[slab][:2]]
    for _ in range(first):
        frame.press("ArrowRight")
    at(first)
    frame.press("n")
    at(second)
    frame.press("Enter")
    view.locator(".km-slab-dump tr").first.wait_for()
    assert int(python(notebook, "view.selected")) == order[slab][1]
    frame.press("Escape")
    view.locator(".km-slab-dump tr").first.wait_for(state="hidden")
    active = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
    assert notebook.page.evaluate(active) == 0
    assert notebook.errors == []


def test_cache_history_and_text_twin(open_notebook):
    code = VIEW.removesuffix("view").replace(
        "view =", "kernel.record()\nkernel.kmalloc(3000, 'GFP_KERNEL')\nview ="
    )
    notebook = open_notebook([code + "view"])
    view = opened(notebook)
    view.get_by_role("combobox", name="Cache").select_option("kmalloc-4k")
    view.get_by_text("Cache kmalloc-4k").wait_for()
    assert python(notebook, "view.cache") == "kmalloc-4k"
    view.get_by_text("The map as text").click()
    text = view.locator(".km-text")
    text.filter(has_text="kmalloc-4k").wait_for()
    assert text.text_content() == python(notebook, "view.text()")
    view.get_by_role("button", name="Step back").click()
    view.get_by_text("step 0 of 1: start").first.wait_for()
    assert python(notebook, "view.step") == "0"


def test_sizes_and_scrolling(open_notebook):
    notebook = open_notebook(
        [SETUP + "kernel, cache, live = some(9000, 200)\nview = SlabMap(kernel, cache)\nview"]
    )
    view = opened(notebook)
    settled(view)
    frame = view.locator(".km-slab-map")
    assert view.evaluate("view => view.kmemkit.count()") >= 9000
    assert view.evaluate("view => view.kmemkit.size()") < 3
    for _ in range(3):
        larger = view.get_by_role("button", name="Larger cells")
        if larger.is_disabled():
            break
        larger.click()
        settled(view)
    assert view.get_by_role("button", name="Larger cells").is_disabled()
    assert frame.evaluate("frame => frame.scrollHeight > 5 * frame.clientHeight")
    frame.press("Control+End")
    notebook.page.wait_for_timeout(200)
    assert frame.evaluate("frame => frame.scrollTop") > 1000
    told_ = told(notebook)
    shown = drawn(view)
    assert 50 < len(shown) < 2000, "only what is in sight is drawn"
    assert all(told_[at] == said for at, said in shown.items())
    says(
        notebook,
        view.locator(".km-line"),
        "view.line(view.model().address(view.model().groups[-1].slabs[-1], 19))",
    )
    assert notebook.errors == []


def test_themes_and_accessibility(open_notebook):
    notebook = open_notebook(
        [
            DEBUG.replace("view = ", "kernel.kmem_cache_free(cache, live[2])\nview = ").replace(
                "(kernel, cache)\nview", "(kernel, cache, selected=live[1])\nview"
            ),
            "other, foo, held = some(60, cpus=2)\nother.cpu = 1\n"
            "[other.kmem_cache_free(foo, obj) for obj in held[50:54]]\nplain = SlabMap(other, foo)\nplain",
            "many, foo, held = some(20000, 200)\nlarge = SlabMap(many, foo)\nlarge",
        ],
        height=2400,
    )
    for number in range(3):
        opened(notebook, number)
    for dark in (False, True):
        notebook.theme(dark=dark)
        theme = "dark" if dark else "light"
        for number, name in enumerate(("debug", "plain", "large")):
            view = opened(notebook, number)
            settled(view)
            notebook.screenshot(f"slab-map-{name}-{theme}", view, docs=name == "debug")
        assert notebook.axe() == ""
        inside = notebook.page.locator(".km-slab")
        unshielded = inside.evaluate_all("""views => views.flatMap(view =>
            [...view.querySelectorAll("*")].filter(node => node.tabIndex >= 0 &&
                node.dataset.lmSuppressShortcuts !== "true").map(node => node.outerHTML))""")
        assert unshielded == []
    assert notebook.errors == []
