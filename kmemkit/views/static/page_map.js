// The page map widget: a canvas with a cursor, a legend with counts, a live line, zoom and history.
import { badge, el, onTheme, say } from "./common.js";
import { HistoryBar, gotoStep } from "./history_bar.js";
import { Columns, wholeSpan, windowOn } from "./page_columns.js";
import { legendItems, noteLines } from "./page_legend.js";
import { Painter } from "./page_paint.js";

/** One map on the page; several can show the same model. */
export class PageMapView {
  constructor(model, columns, el_) {
    this.model = model;
    this.columns = columns;
    this.texts = model.get("_texts");
    this.cursor = model.get("selected") ?? columns.first;
    this.hover = null;
    this.dirty = null; // pfn ranges to draw, or null for everything
    this.build(el_);
    this.painter = new Painter(this.canvas, columns);
    this.resize = new ResizeObserver(() => {
      if (this.frame.clientWidth !== this.room) this.redraw();
    });
    this.resize.observe(this.frame);
    this.stopTheme = onTheme(() => {
      this.painter.stale = true;
      this.redraw();
    });
    this.root.kmemkit = this.debug();
  }

  say(key, fields) {
    return say(this.texts, `page_map.${key}`, fields);
  }

  // -- elements -------------------------------------------------------------------------------

  build(parent) {
    this.headings = el("div", { class: "km-head" });
    this.legend = el("ul", { class: "km-legend" });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.overlay = el("canvas", { "aria-hidden": "true", class: "km-overlay" });
    this.frame = el(
      "div",
      {
        class: "km-map", tabindex: "0", role: "application",
        onkeydown: (event) => this.key(event),
        onpointermove: (event) => this.point(this.under(event)),
        onpointerleave: () => this.point(null),
        onclick: (event) => this.click(event),
        onfocus: () => this.rings(),
        onblur: () => this.rings(),
      },
      this.canvas,
      this.overlay,
    );
    this.frame.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.line = el("div", { class: "km-line", "aria-live": "polite" });
    this.note = el("span", { class: "km-quiet" });
    this.text = el("pre", { class: "km-text", tabindex: "0", "aria-label": this.say("as_text") });
    this.details = el(
      "details",
      { ontoggle: () => this.askText() },
      el("summary", {}, this.say("as_text")),
      this.text,
    );
    this.root = el(
      "div",
      { class: "kmemkit km-page-map" },
      this.headings, this.legend, this.frame, this.line, this.zoomBar(), this.historyBar(),
      badge(this.model), this.details,
    );
    parent.append(this.root);
  }

  button(sign, key, action) {
    const name = this.say(key);
    return el("button", { class: "km-button", type: "button", "aria-label": name, title: name, onclick: action }, sign);
  }

  zoomBar() {
    this.zoomOut = this.button("−", "zoom_out", () => this.zoom(2));
    this.zoomIn = this.button("+", "zoom_in", () => this.zoom(0.5));
    this.lower = this.button("↑", "lower", () => this.pan(-0.5));
    this.higher = this.button("↓", "higher", () => this.pan(0.5));
    return el("div", { class: "km-bar" }, this.zoomOut, this.zoomIn, this.lower, this.higher, this.note);
  }

  historyBar() {
    this.past = new HistoryBar(this.model, (key) => this.say(key), (step) => this.goto(step));
    ({ back: this.back, forward: this.forward, slider: this.slider, element: this.history } = this.past);
    return this.history;
  }

  // -- drawing --------------------------------------------------------------------------------

  /** Draw everything, or some pfn ranges, with the next frame of the browser. */
  redraw(ranges = null) {
    this.dirty = ranges && this.dirty ? [...this.dirty, ...ranges] : null;
    this.waiting ??= requestAnimationFrame(() => this.frameDue());
  }

  frameDue() {
    this.waiting = null;
    if (!this.frame.clientWidth) {
      // Not on the page yet, or JupyterLab hides it while it changes the theme. To observe again
      // brings a call as soon as there is room, also if it is as much as before.
      this.room = 0;
      this.resize.unobserve(this.frame);
      this.resize.observe(this.frame);
      return;
    }
    if (this.dirty === null) this.drawAll();
    else for (const [start, end] of this.dirty) this.painter.range(start, end);
    this.dirty = [];
    this.describe();
    this.rings();
    this.root.dataset.drawn = String(Number(this.root.dataset.drawn ?? 0) + 1);
    if (this.details.open) this.askText();
  }

  drawAll() {
    this.room = this.frame.clientWidth;
    this.painter.layout(this.room);
    this.overlay.width = this.canvas.width;
    this.overlay.height = this.canvas.height;
    this.overlay.style.width = this.canvas.style.width;
    this.overlay.style.height = this.canvas.style.height;
    this.painter.draw();
  }

  /** Everything on the page that is not the picture. */
  describe() {
    const [title, subtitle, blocks] = this.model.get("_headings");
    this.headings.replaceChildren(
      el("span", { class: "km-title" }, title),
      el("span", { class: "km-quiet" }, subtitle),
      el("span", { class: "km-quiet" }, blocks),
    );
    this.frame.setAttribute("aria-label", this.say("label", { title }));
    this.legend.replaceChildren(...legendItems(this.columns));
    this.describeZoom();
    this.describeHistory();
    this.tell();
  }

  describeZoom() {
    const { start, span } = this.painter.window;
    const { first, end } = this.columns;
    const whole = this.whole();
    this.zoomOut.disabled = span >= whole;
    this.zoomIn.disabled = span <= this.least();
    this.lower.hidden = this.higher.hidden = span >= whole;
    this.lower.disabled = start <= first;
    this.higher.disabled = start + span >= end;
    this.note.replaceChildren(...noteLines(this.columns, this.painter, span < whole));
  }

  describeHistory() {
    this.past.describe();
  }

  /** Rings around the selected block, its buddy, and the cursor. */
  rings() {
    const context = this.overlay.getContext("2d");
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const { columns, painter } = this;
    if (!painter.window) return;
    const selected = this.model.get("selected");
    if (selected !== null && columns.first <= selected && selected < columns.end) {
      const block = columns.block(selected);
      const buddy = columns.buddy(block);
      if (buddy !== undefined) painter.ring(context, buddy, buddy + block.size, { dashed: true });
      painter.ring(context, block.head, block.head + block.size, { heavy: 1.5 });
    }
    const at = this.hover ?? (document.activeElement === this.frame ? this.cursor : null);
    if (at !== null) painter.ring(context, at, at + 1);
  }

  /** Say what is under the pointer, else under the cursor. */
  tell() {
    const index = this.painter.cellOf(this.hover ?? this.cursor);
    const words = index < 0 ? "" : this.columns.cellLine(...this.painter.pagesOf(index));
    if (this.line.textContent !== words) this.line.textContent = words;
  }

  // -- pointer and keys -----------------------------------------------------------------------

  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const index = this.painter.hit(event.clientX - box.left, event.clientY - box.top);
    return index < 0 ? null : this.painter.pagesOf(index)[0];
  }

  /** Take the page under the pointer, null where there is none. */
  point(pfn) {
    if (pfn === this.hover) return;
    this.hover = pfn;
    this.rings();
    this.tell();
  }

  click(event) {
    const pfn = this.under(event);
    if (pfn === null) return;
    this.cursor = pfn;
    this.select(pfn);
  }

  select(pfn) {
    this.model.set("selected", this.model.get("selected") === pfn ? null : pfn);
    this.model.save_changes();
    this.rings();
    this.tell();
  }

  /** The window as the model has it now; the painter's is that of the last frame. */
  window() {
    const { model, columns } = this;
    return windowOn(columns.first, columns.end, model.get("start"), model.get("span"), model.get("_width"));
  }

  wheel(event) {
    // Only with the focus: otherwise the wheel belongs to the notebook.
    if (document.activeElement !== this.frame || this.lower.hidden) return;
    event.preventDefault();
    const { start, width, cell, rows } = this.window();
    this.show(start + Math.sign(event.deltaY) * Math.ceil(rows / 8) * width * cell);
  }

  key(event) {
    const { first, end } = this.columns;
    const { cell, width, start, span } = this.window();
    const row = width * cell;
    const cursor = Math.floor(this.cursor / cell) * cell;
    const rowStart = start + Math.floor((cursor - start) / row) * row;
    const acts = {
      ArrowLeft: () => this.move(cursor - cell),
      ArrowRight: () => this.move(cursor + cell),
      ArrowUp: () => this.move(cursor - row),
      ArrowDown: () => this.move(cursor + row),
      Home: () => this.move(event.ctrlKey ? first : rowStart),
      End: () => this.move(event.ctrlKey ? end - 1 : rowStart + row - cell),
      PageUp: () => this.move(cursor - span, start - span),
      PageDown: () => this.move(cursor + span, start + span),
      Enter: () => this.select(this.cursor),
      " ": () => this.select(this.cursor),
      "+": () => this.zoom(0.5),
      "=": () => this.zoom(0.5),
      "-": () => this.zoom(2),
    };
    if (!Object.hasOwn(acts, event.key)) return;
    acts[event.key]();
    event.preventDefault();
    event.stopPropagation();
  }

  /** Bring the cursor, and with it the line, to a page that was selected elsewhere. */
  follow() {
    this.cursor = this.model.get("selected") ?? this.cursor;
  }

  /** Put the cursor on a page, and move the window to `to`, or as far as the page needs. */
  move(pfn, to) {
    const { first, end } = this.columns;
    const { start, span, width, cell } = this.window();
    const row = width * cell;
    this.hover = null;
    this.cursor = Math.min(Math.max(pfn, first), end - 1);
    const cursorRow = Math.floor(this.cursor / row) * row;
    if (to !== undefined && span < this.whole()) this.show(to);
    else if (this.cursor < start) this.show(cursorRow);
    else if (this.cursor >= start + span) this.show(cursorRow + row - span);
    this.reveal();
    this.rings();
    this.tell();
  }

  /** In a page too narrow for a row, scroll the frame sideways to the cursor. */
  reveal() {
    const { painter, frame } = this;
    const index = painter.cellOf(this.cursor);
    if (index < 0) return;
    const [left, , wide] = [...painter.strips(index, index + 1)][0].map((length) => length / painter.ratio);
    if (left < frame.scrollLeft) frame.scrollLeft = left - painter.gutter / painter.ratio;
    else if (left + wide > frame.scrollLeft + frame.clientWidth) frame.scrollLeft = left + wide - frame.clientWidth + 2;
  }

  /** The span of the window that shows everything. */
  whole() {
    return wholeSpan(this.columns.first, this.columns.end, this.model.get("_width"));
  }

  /** The span of the smallest window: one pageblock. */
  least() {
    const orders = this.columns.zones.map((zone) => zone.blockOrder);
    return Math.min(this.whole(), Math.max(16, 2 ** Math.max(...orders)));
  }

  zoom(factor) {
    const old = this.window();
    const span = Math.min(this.whole(), Math.max(old.span * factor, this.least()));
    if (span === old.span) return;
    const inside = old.start <= this.cursor && this.cursor < old.start + old.span;
    if (!inside) this.cursor = old.start + old.span / 2;
    this.show(this.cursor - span / 2, span);
  }

  pan(share) {
    const { start, span } = this.window();
    this.show(start + share * span);
  }

  show(start, span = this.window().span) {
    this.model.set("start", Math.max(0, Math.floor(start)));
    this.model.set("span", span);
    this.model.save_changes();
  }

  goto(step) {
    gotoStep(this.model, step);
  }

  // -- text twin ------------------------------------------------------------------------------

  askText() {
    if (!this.details.open || this.asked) return;
    this.asked = true;
    this.model.send({ want: "text" });
  }

  heard(message) {
    if (!("text" in message)) return;
    this.asked = false;
    this.text.textContent = message.text;
  }

  /** What the browser tests read: what was drawn, not what should have been. */
  debug() {
    return {
      cells: () => this.painter.drawn.join(""),
      letters: () => this.painter.letters,
      window: () => this.painter.window,
      /** The CSS place and size of the cell of a page, relative to the canvas. */
      place: (pfn) => {
        const { painter } = this;
        const strip = [...painter.strips(painter.cellOf(pfn), painter.cellOf(pfn) + 1)][0];
        return strip.map((length) => length / painter.ratio);
      },
      /** Milliseconds that a full redraw takes. */
      timeRedraw: () => {
        const before = performance.now();
        this.drawAll();
        this.painter.context.getImageData(0, 0, 1, 1); // waits until the canvas is really drawn
        return performance.now() - before;
      },
    };
  }

  remove() {
    cancelAnimationFrame(this.waiting);
    this.resize.disconnect();
    this.stopTheme();
  }
}

/**
 * What a module with a map exports: the model's columns, read once, and all views that draw them.
 * @param {typeof PageMapView} View
 * @param {string[]} told more names of state that words or rings come from
 */
export function mapWidget(View, told = []) {
  /** @type {Columns} */
  let columns;
  const views = new Set();
  const redraw = (ranges) => views.forEach((view) => view.redraw(ranges));
  return {
    initialize({ model }) {
      columns = new Columns(model);
      model.on("change:_patch", () => redraw(columns.patch()));
      model.on("change:_pages change:_extent", () => {
        columns.load();
        redraw();
      });
      model.on("change:_blocks", () => redraw(columns.retype()));
      model.on("change:start change:span", () => redraw());
      const words = ["selected", "step", "_steps", "_step_text", "_owner_names", "_marks", "_headings", ...told];
      model.on(words.map((name) => `change:${name}`).join(" "), () => redraw([]));
      model.on("change:selected", () => views.forEach((view) => view.follow()));
      model.on("msg:custom", (message) => views.forEach((view) => view.heard(message)));
    },
    render({ model, el: parent }) {
      const view = new View(model, columns, parent);
      views.add(view);
      return () => {
        views.delete(view);
        view.remove();
      };
    },
  };
}

export default () => mapWidget(PageMapView);
