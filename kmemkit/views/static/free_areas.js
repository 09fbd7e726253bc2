// What FreeAreas shows around its bars: title and axis switch above them, orders, text line,
// legend and table below. The bars are a bqplot figure beside this panel in the same box; the
// panel dissolves into that box, and CSS puts the figure between its halves.
import { count, el, say } from "./common.js";

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const tell = (message) => model.send(message);
  root.classList.add("km-dissolved");

  const zones = el("select", {
    class: "km-field",
    "aria-label": say(texts, "free_areas.choose_zone"),
    onchange: () => tell({ do: "zone", zone: zones.value }),
  });
  const log = el(
    "button",
    { class: "km-button", type: "button", onclick: () => tell({ do: "log" }) },
    say(texts, "free_areas.log"),
  );
  const head = el(
    "div",
    { class: "km-head km-first" },
    el("span", { class: "km-title" }, say(texts, "free_areas.title")),
    el("span", { class: "km-quiet" }, say(texts, "free_areas.by_order")),
    zones,
    el("span", { class: "km-push" }, log),
  );

  const orders = el("div", {
    class: "km-orders",
    role: "toolbar",
    "aria-label": say(texts, "free_areas.orders"),
  });
  const line = el("div", { class: "km-line", role: "status" });
  const legend = el("ul", { class: "km-legend" });
  const table = el("details", {});
  const foot = el("div", { class: "km-last" }, orders, line, legend, table);
  root.append(head, foot);

  /** The order under the reader's cursor; null while the line tells of the selected block. */
  let cursor = null;

  const fillLine = () => {
    const state = model.get("state");
    const said = cursor === null ? state.selected : state.orders[cursor].says;
    line.textContent = said || say(texts, "free_areas.hint");
  };

  /** Move the one tab stop of the row to `order`, as a toolbar does. */
  const stopAt = (order) => {
    [...orders.children].forEach((button, at) => button.setAttribute("tabindex", at === order ? "0" : "-1"));
  };

  const onkeydown = (event) => {
    const at = [...orders.children].indexOf(document.activeElement);
    const last = orders.children.length - 1;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    orders.children[Math.max(0, Math.min(last, to))].focus();
  };
  orders.addEventListener("keydown", onkeydown);

  const orderButton = (order) =>
    el("button", {
      type: "button",
      class: "km-order",
      tabindex: order ? "-1" : "0",
      onfocus: () => {
        cursor = order;
        stopAt(order);
        fillLine();
      },
      onpointerenter: () => {
        cursor = order;
        fillLine();
      },
      onpointerleave: () => {
        cursor = orders.contains(document.activeElement) ? cursor : null;
        fillLine();
      },
      onblur: () => {
        cursor = null;
        fillLine();
      },
    });

  const update = () => {
    const state = model.get("state");
    zones.replaceChildren(...state.zones.map((name, at) => el("option", { value: at }, name)));
    zones.value = String(state.zone);
    zones.hidden = state.zones.length < 2;
    log.setAttribute("aria-pressed", String(state.log));
    log.hidden = !state.chart;

    while (orders.children.length > state.orders.length) orders.lastChild.remove();
    while (orders.children.length < state.orders.length) orders.append(orderButton(orders.children.length));
    state.orders.forEach(({ size, says }, order) => {
      const button = orders.children[order];
      button.replaceChildren(el("b", {}, String(order)), el("span", {}, size));
      button.setAttribute("aria-label", says);
      button.classList.toggle("km-selected", order === state.order);
    });
    legend.replaceChildren(
      ...state.types
        .filter(({ blocks }, at) => at < 3 || blocks)
        .map(({ name, letter, blocks }) =>
          el(
            "li",
            {},
            el("span", { class: "km-swatch", style: `background: var(--km-${name.toLowerCase()})` }, letter),
            `${name}, ${count(blocks)}`,
          ),
        ),
    );
    fillTable(state);
    fillLine();
  };

  const fillTable = (state) => {
    const names = [...state.types.map(({ name }) => name), say(texts, "free_areas.all")];
    const heads = [say(texts, "free_areas.order_head"), ...names];
    const rows = state.orders.map(({ size, counts, all }, order) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, `${order} (${size})`),
        ...[...counts, all].map((number) => el("td", {}, count(number))),
      ),
    );
    const head = el("tr", {}, ...heads.map((name) => el("th", { scope: "col" }, name)));
    const body = el("table", { class: "km-table" }, el("thead", {}, head), el("tbody", {}, ...rows));
    if (!table.children.length) {
      table.append(el("summary", {}, say(texts, "free_areas.table")));
      table.open = !state.chart;
    }
    // A scrolled box must be reachable by keyboard.
    const label = say(texts, "free_areas.table");
    const box = el("div", { class: "km-scroll", tabindex: "0", role: "region", "aria-label": label }, body);
    table.replaceChildren(table.firstChild, box);
  };

  model.on("change:state", update);
  update();
  return () => model.off("change:state", update);
}

export default { render };
