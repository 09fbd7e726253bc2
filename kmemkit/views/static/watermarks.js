// What Watermarks shows around its chart: controls above it, the reading slider, the line it reads,
// the legend and the table below. The chart is a bqplot figure beside this panel in the same box;
// the panel dissolves into that box, finds the figure there, and reads the point under the pointer.
import { el, say } from "./common.js";

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key) => say(texts, `watermarks.${key}`);
  const tell = (what, to = null) => model.send({ do: what, to });
  root.classList.add("km-dissolved");

  const choice = (key, what) => {
    const select = el("select", { class: "km-field", onchange: () => tell(what, select.value) });
    return [select, el("label", { class: "km-labelled" }, words(key), select)];
  };
  const toggle = (key) => el("button", { class: "km-button", type: "button", onclick: () => tell(key) }, words(key));
  const subtitle = el("span", { class: "km-quiet" });
  const [gfp, gfpLabel] = choice("request", "gfp");
  const [zone, zoneLabel] = choice("choose_zone", "zone");
  const near = toggle("near");
  const byTime = toggle("by_time");
  const head = el(
    "div",
    { class: "km-first" },
    el("div", { class: "km-head" }, el("span", { class: "km-title" }, words("title")), subtitle),
    el("div", { class: "km-bar" }, gfpLabel, zoneLabel, near, byTime),
  );

  const slider = el("input", {
    class: "km-grow",
    type: "range",
    min: 0,
    "aria-label": words("slider"),
    title: words("keys"),
    oninput: () => read(Number(slider.value)),
  });
  const where = el("span", { class: "km-where" });
  const line = el("div", { class: "km-line", role: "status", title: words("hint") });
  const legend = el("ul", { class: "km-legend" });
  const table = el("details", {});
  const foot = el("div", { class: "km-last" }, el("div", { class: "km-bar" }, slider, where), line, legend, table);
  const cursor = el("div", { class: "km-wm-cursor", "aria-hidden": "true" });
  root.append(head, foot, cursor);

  // -- reading ------------------------------------------------------------------------------------

  /** The step last asked for: the next key counts from there, though the answer is on its way. */
  let wanted = 0;
  const read = (at) => {
    wanted = Math.max(0, Math.min(model.get("state").xs.length - 1, at));
    slider.value = String(wanted);
    place();
    tell("at", wanted);
  };
  slider.addEventListener("keydown", (event) => {
    const last = model.get("state").xs.length - 1;
    const moves = { ArrowLeft: wanted - 1, ArrowDown: wanted - 1, ArrowRight: wanted + 1, ArrowUp: wanted + 1, PageDown: wanted - 10, PageUp: wanted + 10, Home: 0, End: last };
    if (!(event.key in moves)) return;
    event.preventDefault();
    read(moves[event.key]);
  });

  /** The chart's plot area on the page: the figure's own box less the margins Python gave it. */
  const plot = () => {
    const box = root.closest(".km-watermarks");
    const svg = box?.querySelector(".bqplot svg");
    if (!svg) return null;
    const { left, top, width, height } = svg.getBoundingClientRect();
    const { margin } = model.get("state");
    const outer = box.getBoundingClientRect();
    return {
      left: left + margin.left,
      width: width - margin.left - margin.right,
      top: top + margin.top - outer.top,
      height: height - margin.top - margin.bottom,
      outer,
    };
  };
  const place = () => {
    const area = plot();
    cursor.hidden = !area;
    if (!area) return;
    const { xs, span } = model.get("state");
    const x = area.left - area.outer.left + ((xs[wanted] - span[0]) / (span[1] - span[0])) * area.width;
    cursor.style.cssText = `left: ${x}px; top: ${area.top}px; height: ${area.height}px`;
  };
  let frame = 0;
  const onpointermove = (event) => {
    if (!event.target.closest(".bqplot")) return;
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      const area = plot();
      if (!area) return;
      const { xs, span } = model.get("state");
      const at = span[0] + ((event.clientX - area.left) / area.width) * (span[1] - span[0]);
      let best = 0;
      xs.forEach((x, n) => {
        if (Math.abs(x - at) < Math.abs(xs[best] - at)) best = n;
      });
      if (best !== wanted) read(best);
    });
  };
  let box = null;
  // The box and the figure in it come after this panel, and the figure's size after that.
  const sized = new ResizeObserver(() => {
    if (!box) {
      box = root.closest(".km-watermarks");
      box?.addEventListener("pointermove", onpointermove);
      const figure = box?.querySelector(".bqplot");
      if (figure) sized.observe(figure);
    }
    place();
  });
  sized.observe(foot);

  // -- showing ------------------------------------------------------------------------------------

  const options = (select, pairs, value) => {
    const same = [...select.options].map((o) => o.label).join("\n") === pairs.map(([, label]) => label).join("\n");
    if (!same) select.replaceChildren(...pairs.map(([v, label]) => el("option", { value: v }, label)));
    select.value = String(value);
  };

  const fillTable = (state) => {
    const [heads, ...rows] = state.table;
    const body = el(
      "table",
      { class: "km-table km-wm-table" },
      el("thead", {}, el("tr", {}, ...heads.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, ...rows.map(([step, ...cells]) => el("tr", {}, el("th", { scope: "row" }, step), ...cells.map((cell) => el("td", {}, cell))))),
    );
    if (!table.children.length) {
      table.append(el("summary", {}, words("table")));
      table.open = !state.chart;
    }
    // A scrolled box must be reachable by keyboard.
    const scroll = el("div", { class: "km-scroll", tabindex: "0", role: "region", "aria-label": words("table") }, body);
    table.replaceChildren(table.firstChild, scroll, el("p", { class: "km-quiet" }, state.turning));
  };

  const fillLegend = (state) => {
    const items = ["free", ...["reserve", "boost", "kswapd"].filter((key) => state[key])];
    if (state.stalls) items.push("stall");
    if (state.failed) items.push("failed");
    legend.replaceChildren(
      ...items.map((key) => el("li", {}, el("span", { class: `km-wm-key km-wm-${key}`, "aria-hidden": "true" }), say(texts, `watermarks.legend_${key}`))),
    );
  };

  const update = () => {
    const state = model.get("state");
    subtitle.textContent = state.head;
    options(gfp, state.gfps.map((mask) => [mask, mask]), state.gfp);
    options(zone, state.zones.map((name, at) => [at, name]), state.zone);
    zoneLabel.hidden = state.zones.length < 2;
    near.setAttribute("aria-pressed", String(state.near));
    near.hidden = !state.chart;
    byTime.setAttribute("aria-pressed", String(state.by_time));
    byTime.hidden = !state.timed || !state.chart;
    slider.max = String(state.xs.length - 1);
    wanted = state.at;
    slider.value = String(state.at);
    slider.setAttribute("aria-valuetext", state.where);
    where.textContent = state.where;
    line.textContent = state.line;
    fillLegend(state);
    legend.hidden = !state.chart;
    fillTable(state);
    place();
  };

  model.on("change:state", update);
  update();
  return () => {
    model.off("change:state", update);
    sized.disconnect();
    box?.removeEventListener("pointermove", onpointermove);
  };
}

export default { render };
