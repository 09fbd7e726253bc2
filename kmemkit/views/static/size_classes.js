// What SizeClasses shows around its chart: the field and the slider above it, the line of the size
// and the table below. The chart is a bqplot figure beside this panel in the same box; the panel
// dissolves into that box, and reads the size under the pointer there.
import { el, say } from "./common.js";

/** Steps of the slider for each doubling of the size. */
const FINE = 256;

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key) => say(texts, `size_classes.${key}`);
  root.classList.add("km-dissolved");
  const state = () => model.get("state");

  /** The size last asked for: the next key counts from there, though the answer is on its way. */
  let wanted = state().size;
  const ask = (size) => {
    wanted = Math.max(0, Math.min(Math.round(size), 2 ** 31));
    slider.value = String(position(wanted));
    model.send({ do: "size", to: wanted });
  };
  const position = (size) => Math.round(Math.log2(Math.max(1, Math.min(size, state().most))) * FINE);

  const field = el("input", {
    class: "km-field", type: "number", min: 0, step: 1,
    onchange: () => ask(Number(field.value) || 0),
    oninput: () => field.value !== "" && ask(Number(field.value)),
  });
  const slider = el("input", {
    class: "km-grow", type: "range", min: 0, max: position(state().most),
    "aria-label": words("slider"), title: words("keys"),
    oninput: () => ask(2 ** (Number(slider.value) / FINE)),
  });
  slider.addEventListener("keydown", (event) => {
    const { sizes, most } = state();
    const moves = {
      ArrowLeft: wanted - 1,
      ArrowDown: wanted - 1,
      ArrowRight: wanted + 1,
      ArrowUp: wanted + 1,
      PageUp: sizes.find((size) => size > wanted) ?? most,
      PageDown: sizes.findLast((size) => size < wanted) ?? 1,
      Home: 1,
      End: most,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    ask(moves[event.key]);
  });
  const ranges = Object.entries(state().ranges).map(([name, said]) => [
    name,
    el("button", { class: "km-button", type: "button", onclick: () => model.send({ do: "range", to: name }) }, said),
  ]);
  const rangeBar = el("div", { class: "km-bar", role: "group", "aria-label": words("range_label") }, ...ranges.map(([, button]) => button));
  const head = el(
    "div",
    { class: "km-first" },
    el("div", { class: "km-head" }, el("span", { class: "km-title" }, words("title"))),
    el("div", { class: "km-bar" }, el("label", { class: "km-labelled" }, words("field"), field), slider),
    rangeBar,
  );
  const line = el("div", { class: "km-line", role: "status" });
  const legend = el(
    "ul",
    { class: "km-legend" },
    ...[["waste", "legend_waste"], ["without", "legend_without"], ["beyond", "legend_beyond"]].map(([name, key]) =>
      el("li", {}, el("span", { class: `km-sz-key km-sz-${name}`, "aria-hidden": "true" }), words(key)),
    ),
  );
  const table = el("details", {}, el("summary", {}, words("table")));
  const foot = el("div", { class: "km-last" }, line, legend, table);
  root.append(head, foot);

  // -- pointing -----------------------------------------------------------------------------------

  /** The size under a point of the chart, or null outside its plot. */
  const under = (clientX, clientY) => {
    const svg = box?.querySelector(".bqplot svg");
    if (!svg) return null;
    const { left, top, width, height } = svg.getBoundingClientRect();
    const { margin, last, range } = state();
    const share = (clientX - left - margin.left) / (width - margin.left - margin.right);
    const inside = clientY > top + margin.top && clientY < top + height - margin.bottom;
    if (share < 0 || share > 1 || !inside) return null;
    return Math.max(1, range === "small" ? share * last : last ** share);
  };
  let box = null;
  const onclick = (event) => {
    const size = event.target.closest(".bqplot") && under(event.clientX, event.clientY);
    if (size) ask(size);
  };
  // The box comes after this panel.
  const sized = new ResizeObserver(() => {
    if (box) return;
    box = root.closest(".km-sizes");
    box?.addEventListener("click", onclick);
  });
  sized.observe(foot);

  // -- showing ------------------------------------------------------------------------------------

  const fillTable = ({ table: [heads, ...rows], row: here }) => {
    const body = el(
      "table",
      { class: "km-table km-sz-table" },
      el("thead", {}, el("tr", {}, ...heads.map((name) => el("th", { scope: "col" }, name)))),
      el(
        "tbody",
        {},
        ...rows.map(([first, ...cells], n) =>
          el(
            "tr",
            { class: n === here ? "km-sz-here" : null, "aria-current": n === here ? "true" : null },
            el("th", { scope: "row" }, first),
            ...cells.map((cell) => el("td", {}, cell)),
          ),
        ),
      ),
    );
    // A scrolled box must be reachable by keyboard.
    const scroll = el("div", { class: "km-scroll", tabindex: "0", role: "group", "aria-label": words("table") }, body);
    table.replaceChildren(table.firstChild, scroll, el("p", { class: "km-quiet" }, words("odd")));
  };

  const update = () => {
    const now = state();
    if (document.activeElement !== field || Number(field.value) !== now.size) field.value = String(now.size);
    if (document.activeElement !== slider) wanted = now.size;
    slider.value = String(position(now.size));
    slider.setAttribute("aria-valuetext", now.line);
    line.textContent = now.line;
    for (const [name, button] of ranges) button.setAttribute("aria-pressed", String(name === now.range));
    rangeBar.hidden = legend.hidden = !now.chart;
    legend.lastChild.hidden = now.range !== "all";
    fillTable(now);
  };
  table.open = !state().chart;
  model.on("change:state", update);
  update();
  return () => {
    model.off("change:state", update);
    sized.disconnect();
    box?.removeEventListener("click", onclick);
  };
}

export default { render };
