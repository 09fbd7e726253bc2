// The table of masks against rungs: a grid of buttons, each of which opens a road at a rung.
import { el, say } from "./common.js";

/**
 * Make the table; `update` fills it with the model's state.
 * @param {object} model
 * @param {(mask: string, rung: string) => void} open
 * @param {() => void} reveal
 * @returns {{ node: HTMLElement, update: () => void }}
 */
export function maskTable(model, open, reveal) {
  const texts = model.get("_texts");
  const words = (key, fields) => say(texts, `ladder.${key}`, fields);
  const title = el("span", { class: "km-title" });
  const all = el("button", { class: "km-button km-push", type: "button", onclick: reveal }, words("reveal"));
  const head = el("tr", {});
  const body = el("tbody", {});
  const grid = el("table", { class: "km-rl-masks", role: "grid" }, el("thead", {}, head), body);
  const node = el(
    "div",
    { class: "km-rl-table" },
    el("div", { class: "km-bar km-rl-top" }, title, all),
    el("div", { class: "km-scroll" }, grid),
  );
  /** The one cell that Tab comes to, as row and column. */
  let stop = [0, 0];

  const buttons = (row) => [...body.children[row].querySelectorAll("button")];
  const focusable = () => {
    const rows = [...body.children].map((_, row) => buttons(row));
    const row = Math.min(stop[0], rows.length - 1);
    const column = Math.min(stop[1], rows[row].length - 1);
    rows.flat().forEach((button) => button.setAttribute("tabindex", "-1"));
    rows[row][column].setAttribute("tabindex", "0");
    return rows[row][column];
  };
  grid.addEventListener("keydown", (event) => {
    const [row, column] = stop;
    const last = buttons(row).length - 1;
    const to = {
      ArrowLeft: [row, Math.max(column - 1, 0)],
      ArrowRight: [row, Math.min(column + 1, last)],
      ArrowUp: [Math.max(row - 1, 0), column],
      ArrowDown: [Math.min(row + 1, body.children.length - 1), column],
      Home: [row, 0],
      End: [row, last],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    event.stopPropagation();
    stop = to;
    focusable().focus();
  });

  const cellButton = (row, column, props, ...children) =>
    el(
      "button",
      { type: "button", class: "km-rl-cell", tabindex: "-1", onfocus: () => (stop = [row, column]), ...props },
      ...children,
    );
  /** One cell of a road: its sign and its word. */
  const cell = (row, column, mask, [rung, , name], [outcome, sign, word, line]) =>
    el(
      "td",
      { class: `km-rl-${outcome}`, role: "gridcell" },
      cellButton(
        row,
        column,
        { title: line, "aria-label": `${mask}, ${name}: ${word}`, onclick: () => open(mask, rung) },
        el("span", { class: "km-rl-sign", "aria-hidden": "true" }, sign),
        `\u00a0${word}`,
      ),
    );
  /** A cell that speaks of the whole road: its end, or that it is hidden. */
  const whole = (row, mask, look, { column = 0, span = null, says }, label) =>
    el(
      "td",
      { class: look, role: "gridcell", colspan: span },
      cellButton(row, column, { "aria-label": `${mask}: ${says}`, onclick: () => open(mask, "null") }, label),
    );
  const line = (columns, chosen) => ({ mask, cells, end }, row) => {
    // A mask breaks where its parts meet.
    const parts = mask.split(/(?=\| ?__)|(?<= )(?=& ~)/);
    const label = el("th", { scope: "row" }, ...parts.flatMap((part) => [part, el("wbr", {})]));
    const tail = end
      ? [
          ...cells.map((told, column) => cell(row, column, mask, columns[column], told)),
          whole(row, mask, `km-rl-end km-rl-${end[0]}`, { column: cells.length, says: end[2] }, end[1]),
        ]
      : [whole(row, mask, "km-rl-hidden", { span: columns.length + 1, says: words("hidden") }, words("hidden"))];
    return el("tr", { class: mask === chosen ? "km-rl-chosen" : null }, label, ...tail);
  };

  const update = () => {
    const { table, controls } = model.get("state");
    node.hidden = !table;
    if (!table) return;
    const inside = grid.contains(document.activeElement);
    title.textContent = table.title;
    all.hidden = !table.hidden;
    grid.setAttribute("aria-label", table.title);
    const heads = table.columns.map(([, short, name]) => el("th", { scope: "col", title: name }, short));
    head.replaceChildren(
      el("th", { scope: "col" }, words("mask")),
      ...heads,
      el("th", { scope: "col" }, words("end_head")),
    );
    const chosen = controls.other < 0 ? controls.masks[controls.mask] : "";
    body.replaceChildren(...table.rows.map(line(table.columns, chosen)));
    const target = focusable();
    if (inside) target.focus({ preventScroll: true });
  };
  return { node, update };
}
