"""What the browser tests of several views share: ask Python, compare, click a page of a map."""


def python(notebook, expression):
    """Return what an expression prints in the notebook's kernel, after all messages before it."""
    return notebook.page.evaluate(
        """async code => {
            const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
            const future = kernel.requestExecute({ code, store_history: false });
            let said = "";
            future.onIOPub = ({ content }) => { said += content.text ?? content.evalue ?? ""; };
            await future.done;
            return said.replace(/\\n$/, "");
        }""",
        f"print({expression})",
    )


def becomes(notebook, expression, value):
    """Wait until Python says `value`: what was pressed may still be on its way to it."""
    for _ in range(100):
        told = python(notebook, expression)
        if told == value:
            break
        notebook.page.wait_for_timeout(50)
    assert told == value


def says(notebook, locator, expression):
    """Wait until the page shows what Python says."""
    told = python(notebook, expression)
    locator.filter(has_text=told).wait_for()
    assert locator.inner_text().strip() == told


def click_page(view, pfn):
    """Click the middle of a page's cell on the map."""
    canvas = view.locator(".km-map canvas").first
    left, top, width, height = canvas.evaluate(
        "(canvas, pfn) => canvas.closest('.kmemkit').kmemkit.place(pfn)", pfn
    )
    canvas.click(position={"x": left + width / 2, "y": top + height / 2})
