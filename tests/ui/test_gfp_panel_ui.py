"""GfpPanel in JupyterLab: mouse, keyboard, and what it shows against Python's text."""

from tests.ui.asking import python, says

ONE = 'from kmemkit.views import GfpPanel\npanel = GfpPanel("GFP_KERNEL")\npanel'
TWO = (
    "from kmemkit.views import GfpPanel\n"
    'panel = GfpPanel("GFP_KERNEL", "GFP_HIGHUSER_MOVABLE|__GFP_NORETRY", order=4)\npanel'
)
QUIZ = "from kmemkit.views import GfpPanel\npanel = GfpPanel(predict=True, seed=3)\npanel"


def box(view, name, which=0):
    """Return the checkbox of a flag in the list of its section."""
    return view.locator(".km-gfp-flags li", has_text=name).locator("input").nth(which)


def agrees(notebook, view):
    """Wait until what the page shows of the mask is what Python says, bit by bit and row by row."""
    says(notebook, view.locator(".km-gfp-prints").first, "panel.state['masks'][0]['prints']")
    bits = eval(python(notebook, "[bit['on'][0] for bit in panel.state['bits']]"))
    shown = view.locator(".km-gfp-strip").first.locator("button").all_inner_texts()
    assert shown == ["1" if on else "0" for on in reversed(bits)]
    mask = sum(1 << place for place, on in enumerate(bits) if on)
    digits = view.locator(".km-gfp-strip").first.locator(".km-gfp-digit").all_inner_texts()
    assert int("".join(digits), 16) == mask
    ticked = view.locator(".km-gfp-flags input[data-which='0']:checked").evaluate_all(
        "boxes => boxes.reduce((mask, box) => mask + 2 ** Number(box.dataset.place), 0)"
    )
    named = int(python(notebook, "sum(1 << b.place for b in panel.bits if b.name)"))
    assert ticked == mask & named
    rows = eval(
        python(
            notebook,
            "[line for s in panel.state['sections'] for row in s['rows']"
            " for cell in row['cells'][:1 + row['differs']] for line in cell['lines']]",
        )
    )
    cells = "".join(view.locator(".km-gfp-rows td").all_inner_texts())
    seen = "".join(cells.split())
    for line in rows:
        assert "".join(line.split()) in seen, line


def test_bits_names_and_hex_by_mouse(open_notebook):
    notebook = open_notebook([ONE])
    view = notebook.view()
    agrees(notebook, view)
    box(view, "__GFP_DIRECT_RECLAIM").click()
    view.get_by_text("0x8c0 = __GFP_IO|__GFP_FS|__GFP_KSWAPD_RECLAIM").wait_for()
    agrees(notebook, view)
    view.get_by_role("checkbox", name="__GFP_ZERO 0x100").first.click()
    view.get_by_text("0x9c0 = ").wait_for()
    agrees(notebook, view)

    typed = view.get_by_role("textbox", name="Mask: names or hex")
    typed.fill("0xa20")
    typed.press("Enter")
    view.get_by_text("0xa20 = GFP_ATOMIC|0x200").wait_for()
    view.get_by_text(
        "0x200 is no flag of Linux 6.12; it is __GFP_ATOMIC in 5.10 to 6.1."
    ).wait_for()
    view.get_by_label("Kernel").select_option("5.10")
    view.get_by_text("0xa20 = GFP_ATOMIC", exact=True).wait_for()
    agrees(notebook, view)
    typed.fill("GFP_KERNAL")
    typed.press("Enter")
    view.get_by_text("did you mean GFP_KERNEL").wait_for()
    assert typed.input_value() == "GFP_KERNAL"
    view.get_by_label("Mask: pick a composite").select_option("GFP_HIGHUSER_MOVABLE")
    view.get_by_text("0x100cca = GFP_HIGHUSER_MOVABLE").wait_for()
    assert typed.input_value() == "GFP_HIGHUSER_MOVABLE"
    view.get_by_label("Machine").select_option("i386")
    view.get_by_text("HighMem", exact=True).wait_for()
    agrees(notebook, view)
    assert notebook.errors == []


def test_bits_by_keyboard_alone(open_notebook):
    notebook = open_notebook([ONE])
    view, keyboard = notebook.view(), notebook.page.keyboard
    view.get_by_label("Mask: pick a composite").focus()
    # One tab stop for the whole strip, then the arrows; the line below tells of the bit.
    keyboard.press("Tab")
    keyboard.press("End")
    for _ in range(8):
        keyboard.press("ArrowLeft")
    says(notebook, view.locator(".km-line"), "panel.bits[8].says('6.12')")
    keyboard.press("Space")
    view.get_by_text("0xdc0 = GFP_KERNEL|__GFP_ZERO").wait_for()
    keyboard.press("Tab")
    for _ in range(2):
        keyboard.press("ArrowDown")
    says(notebook, view.locator(".km-line"), "panel.bits[10].says('6.12')")
    keyboard.press("Space")
    view.get_by_text("0x9c0 = ").wait_for()
    # The box that was switched still has the keyboard.
    keyboard.press("Space")
    view.get_by_text("0xdc0 = ").wait_for()
    agrees(notebook, view)
    stops = view.locator(".km-gfp-strip button[tabindex='0']")
    assert stops.count() == 1
    active = "() => jupyterapp.shell.currentWidget.content.activeCellIndex"
    assert notebook.page.evaluate(active) == 0
    assert notebook.errors == []


def test_two_masks_side_by_side(open_notebook):
    notebook = open_notebook([ONE])
    view = notebook.view()
    view.get_by_label("compare two").check()
    view.get_by_text("The two masks are the same.").wait_for()
    assert view.locator(".km-gfp-differs").count() == 0
    view.get_by_label("Mask B: pick a composite").select_option("GFP_NOIO")
    apart = view.locator(".km-gfp-apart")
    apart.filter(has_text="They differ in __GFP_IO, __GFP_FS.").wait_for()
    says(notebook, apart, "panel.differences()")
    assert view.locator(".km-gfp-bit.km-gfp-unlike").count() == 4
    marked = view.locator(".km-gfp-differs th").all_inner_texts()
    rows = eval(
        python(
            notebook,
            "[row['label'] for s in panel.state['sections'] for row in s['rows'] if row['differs']]",
        )
    )
    assert marked == [f"≠ {label}" for label in rows]
    box(view, "__GFP_FS", which=1).click()
    apart.filter(has_text="They differ in __GFP_IO.").wait_for()
    assert python(notebook, "hex(panel.other)") == "0xc80"
    agrees(notebook, view)


def test_nothing_is_shown_before_the_prediction(open_notebook):
    notebook = open_notebook([QUIZ])
    view, keyboard = notebook.view(), notebook.page.keyboard
    assert view.locator(".km-gfp-rows").filter(visible=True).count() == 0
    view.get_by_role("radio", name="may sleep", exact=True).focus()
    keyboard.press("Space")
    view.get_by_role("radio", name="DMA", exact=True).check()
    view.get_by_role("button", name="Commit").press("Enter")
    outcomes = view.locator(".km-outcome")
    outcomes.nth(2).wait_for()
    told = [text.strip() for text in outcomes.all_inner_texts()]
    verdicts = "[verdict.sentence for verdict in panel.quiz.verdicts.values()]"
    assert [text[2:] for text in told] == eval(python(notebook, verdicts))
    assert told[1].startswith("✗ ")
    view.get_by_text("“Movable pages come from Normal first.”").wait_for()
    agrees(notebook, view)
    # The keyboard goes on with the next mask.
    keyboard.press("Enter")
    view.get_by_text("What it does is shown when you have answered.").wait_for()
    assert view.locator(".km-gfp-rows").filter(visible=True).count() == 0
    view.get_by_text("predictions: 1 right, 1 wrong, 1 not known").wait_for()
    assert notebook.errors == []


def test_axe_has_nothing_to_say_and_it_looks_right(open_notebook):
    notebook = open_notebook([ONE, TWO, QUIZ], height=2000)
    one, two, quiz = (notebook.view(n) for n in range(3))
    for theme in notebook.themes():
        notebook.screenshot(f"gfp-panel-{theme}", one)
        notebook.screenshot(f"gfp-panel-two-{theme}", two)
        notebook.screenshot(f"gfp-panel-ask-{theme}", quiz)
        assert notebook.axe() == "", theme
    quiz.get_by_label("does not sleep").check()
    quiz.get_by_role("button", name="Commit").click()
    quiz.locator(".km-verdict").first.wait_for()
    for theme in notebook.themes():
        notebook.screenshot(f"gfp-panel-told-{theme}", quiz)
        assert notebook.axe() == "", theme
    for view in (one, two, quiz):
        stops = view.locator(":is(button, input, select, summary, textarea, a, [tabindex])")
        assert stops.count() > 50
        assert (
            view.locator(":is(button, input, select):not([data-lm-suppress-shortcuts])").count()
            == 0
        )
    assert notebook.errors == []


def test_it_fits_a_narrow_window(open_notebook):
    notebook = open_notebook([TWO], width=720, height=2400)
    view = notebook.view()
    assert view.evaluate("view => view.scrollWidth <= view.clientWidth")
    notebook.screenshot("gfp-panel-narrow", view)


def test_an_answer_in_one_panel_leaves_the_other_alone(open_notebook):
    notebook = open_notebook([QUIZ, "GfpPanel(predict=True, seed=3)"])
    radios = [notebook.view(number).get_by_role("radio", name="may sleep") for number in (0, 1)]
    for radio in radios:
        radio.first.check()
    assert all(radio.first.is_checked() for radio in radios)
    assert notebook.errors == []
