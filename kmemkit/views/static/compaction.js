// Compaction on the page map: how far both scanners came, an arrow for the page that moves, a walk
// through the steps, and the question before each move. views/compaction.py joins this file behind
// page_map.js, whose class draws the map.
import { css } from "./colors.js";
import { el, onTheme, say } from "./common.js";
import { PageMapView, mapWidget } from "./page_map.js";

/** Steps per second that the reader can choose. */
const PACES = [1, 2, 4, 8];

/** One map with scanners on the page. */
class CompactionView extends PageMapView {
  words(key, fields) {
    return say(this.texts, `compaction.${key}`, fields);
  }

  send(what, values = {}) {
    this.model.send({ do: what, ...values });
  }

  // -- elements -------------------------------------------------------------------------------

  build(parent) {
    super.build(parent);
    this.root.classList.add("km-compaction");
    this.scanners = el("p", { class: "km-scanners" });
    this.numbers = el("p", { class: "km-quiet" });
    this.verdict = el("div", { role: "status" });
    this.message = el("p", { class: "km-message", role: "status" });
    this.score = el("span", { class: "km-quiet" });
    this.buildQuestion();
    this.freePlay = el("input", {
      type: "checkbox",
      onchange: () => this.send("free_play", { on: this.freePlay.checked }),
    });
    this.freePlayLabel = el("span", {});
    this.play = el("div", { class: "km-bar km-play" }, this.score, el("label", { class: "km-check" }, this.freePlay, this.freePlayLabel));
    this.root.insertBefore(this.history, this.frame);
    this.frame.before(this.scanners, this.numbers, this.ask, this.message, this.verdict, this.play);
    this.moved = () => this.advance();
    this.model.on("change:step change:state", this.moved);
  }

  buildQuestion() {
    const field = (key) =>
      el("input", {
        class: "km-field km-answer",
        type: "text",
        spellcheck: "false",
        autocomplete: "off",
        placeholder: "0x",
        "aria-label": this.words(key),
        title: this.words(key),
        onkeydown: (event) => event.key === "Enter" && this.commit(),
        onfocus: () => (this.filling = this[key]),
      });
    const button = (key, onclick) => el("button", { class: "km-button", type: "button", onclick }, this.words(key));
    this.source = field("source");
    this.target = field("target");
    this.filling = this.source;
    this.ask = el(
      "div",
      { class: "km-ask", role: "group", "aria-label": this.words("ask") },
      el("p", { class: "km-question" }, this.words("ask")),
      el(
        "div",
        { class: "km-bar" },
        this.source,
        el("span", { "aria-hidden": "true" }, "\u2192"),
        this.target,
        button("commit", () => this.commit()),
        button("unknown", () => this.send("unknown")),
      ),
    );
  }

  historyBar() {
    const bar = super.historyBar();
    const still = (this.still = matchMedia("(prefers-reduced-motion: reduce)"));
    const stepper = (key, fields) => say(this.texts, `stepper.${key}`, fields);
    this.run = el("button", { class: "km-button", type: "button", onclick: () => this.toggleRun() });
    this.pace = el(
      "select",
      { class: "km-field", "aria-label": stepper("speed") },
      ...PACES.map((value) => el("option", { value }, stepper("per_second", { speed: value }))),
    );
    this.pace.value = "2";
    this.label = () => {
      this.run.textContent = stepper(still.matches ? "to_end" : this.running ? "pause" : "run");
      this.pace.hidden = still.matches;
    };
    this.halt = () => {
      this.running = false;
      clearTimeout(this.timer);
      this.label();
    };
    still.addEventListener("change", this.halt);
    this.label();
    bar.firstChild.append(this.run, this.pace);
    return bar;
  }

  // -- walking --------------------------------------------------------------------------------

  goto(step) {
    this.halt();
    const by = step - this.model.get("step");
    // Python counts single steps: presses that come faster than the answers must not be lost.
    if (by === 1) this.send("forward");
    else if (by === -1) this.send("back");
    else this.send("seek", { to: step });
  }

  /** Step by itself: the next move is asked for when the last one has arrived. */
  toggleRun() {
    if (this.running) return this.halt();
    const last = this.model.get("_steps") - 1;
    if (this.still.matches) return this.goto(last);
    this.running = true;
    this.label();
    this.send(this.model.get("step") >= last ? "seek" : "forward", { to: 0 });
  }

  advance() {
    clearTimeout(this.timer);
    if (!this.running) return;
    const ended = this.model.get("step") >= this.model.get("_steps") - 1;
    if (ended || this.model.get("state").asking) return this.halt();
    this.timer = setTimeout(() => this.send("forward"), 1000 / Number(this.pace.value));
  }

  // -- the question ---------------------------------------------------------------------------

  commit() {
    this.send("commit", { src: this.source.value, dst: this.target.value });
  }

  /** While a question is open, a click on the map is an answer. */
  select(pfn) {
    if (!this.model.get("state").asking) return super.select(pfn);
    this.filling.value = `0x${pfn.toString(16)}`;
    this.filling = this.filling === this.source ? this.target : this.source;
    this.tell();
    this.rings();
  }

  /** Show the words around the map as the model has them now. */
  panel() {
    const state = this.model.get("state");
    this.scanners.textContent = state.scanners;
    this.numbers.textContent = state.numbers;
    this.message.textContent = state.message;
    this.message.hidden = !state.message;
    this.play.hidden = !state.predict;
    this.score.textContent = state.score;
    this.freePlay.checked = state.free_play;
    this.freePlayLabel.textContent = this.words(state.unlocked ? "free_play" : "free_play_locked");
    this.turn(state.asking);
    this.showVerdict(state.verdict);
  }

  /** Open or close the question, and keep the keyboard where the learner goes on. */
  turn(asking) {
    if (this.ask.hidden === !asking && this.asked === this.model.get("step")) return;
    const inside = this.ask.contains(document.activeElement);
    this.asked = this.model.get("step");
    this.ask.hidden = !asking;
    this.source.value = this.target.value = "";
    this.filling = this.source;
    if (inside && asking) this.source.focus({ preventScroll: true });
    else if (inside) this.forward.focus({ preventScroll: true });
  }

  showVerdict(given) {
    this.verdict.hidden = !given;
    if (!given) return;
    const [sign, name] = { true: ["\u2713", "right"], false: ["\u2717", "wrong"], null: ["?", "open"] }[given.right];
    this.verdict.className = `km-verdict km-${name}`;
    this.verdict.replaceChildren(
      el("p", { class: "km-outcome" }, el("span", { "aria-hidden": "true" }, sign), ` ${given.sentence}`),
      ...(given.idea ? [el("p", {}, el("b", {}, given.idea), ` ${given.why}`)] : []),
    );
  }

  describeHistory() {
    super.describeHistory();
    const { reach, asking } = this.model.get("state");
    this.slider.max = String(Math.max(1, reach));
    this.slider.disabled = reach === 0;
    for (const node of [this.back, this.forward]) {
      // A disabled button would drop the keyboard's focus; this one only says so.
      node.setAttribute("aria-disabled", String(node.disabled || (node === this.forward && asking)));
      node.disabled = false;
    }
    this.panel();
  }

  // -- over the map ---------------------------------------------------------------------------

  rings() {
    super.rings();
    if (!this.painter.window || !this.painter.inks) return;
    const context = this.overlay.getContext("2d");
    const { kind, migrate, free, first, end, src, dst } = this.model.get("scan");
    if (kind === "start" || kind === "after" || migrate < 0) return;
    const { columns, painter } = this;
    const zone = columns.zone(migrate);
    if (!zone) return;
    this.stretch(context, Math.max(zone.start, columns.first), migrate, false);
    this.stretch(context, free, Math.min(zone.end, columns.end), true);
    if (first >= 0) painter.ring(context, first, end, { dashed: true });
    if (src >= 0) this.arrow(context, src, dst);
    this.flag(context, migrate, "\u25b6", false);
    this.flag(context, free - 1, "\u25c0", true);
  }

  /** Underline what a scanner has behind it: solid for the migrate scanner, dashes for the free one. */
  stretch(context, start, end, dashed) {
    const { painter } = this;
    const { window: win, ratio, inks } = painter;
    const low = Math.max(0, Math.floor((start - win.start) / win.cell));
    const high = Math.min(win.width * win.rows, Math.ceil((end - win.start) / win.cell));
    const thick = Math.max(2, Math.round(2.5 * ratio));
    for (const [x, y, w, h] of painter.strips(low, Math.max(low, high))) {
      for (let row = 1; row <= Math.round(h / painter.ch); row++) {
        const line = y + row * painter.ch - thick / 2;
        context.lineWidth = thick;
        context.strokeStyle = css(inks.ink);
        context.setLineDash(dashed ? [3 * ratio, 3 * ratio] : []);
        context.beginPath();
        context.moveTo(x + 1, line);
        context.lineTo(x + w, line);
        context.stroke();
      }
    }
    context.setLineDash([]);
  }

  /** A small flag with the scanner's direction, at the border it stands on. */
  flag(context, pfn, sign, after) {
    const { painter } = this;
    const index = painter.cellOf(pfn);
    if (index < 0) return;
    const { ratio, inks } = painter;
    const [x, y, w] = [...painter.strips(index, index + 1)][0];
    const [wide, high] = [13 * ratio, 13 * ratio];
    const left = Math.max(painter.gutter, after ? x + w - wide : x);
    context.fillStyle = css(inks.ink);
    context.fillRect(left, y, wide, high);
    context.fillStyle = css(inks.paper);
    context.font = `${Math.round(10 * ratio)}px sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(sign, left + wide / 2, y + high / 2 + ratio / 2);
  }

  /** From the page's old place to its new one; a dot marks the old one, a ring the new. */
  arrow(context, src, dst) {
    const { painter } = this;
    const [from, to] = [painter.cellOf(src), painter.cellOf(dst)];
    if (to >= 0) painter.ring(context, dst, dst + 1, { heavy: 1.5 });
    if (from < 0 || to < 0) return;
    const { ratio, inks, ch, cw } = painter;
    const [[ax, ay], [bx, by]] = [painter.centre(from), painter.centre(to)];
    const [dx, dy] = [bx - ax, by - ay];
    const long = Math.hypot(dx, dy) || 1;
    const bend = Math.min(0.18 * long, 3 * ch);
    const [mx, my] = [(ax + bx) / 2 + (dy / long) * bend, (ay + by) / 2 - (dx / long) * bend];
    // The ends stay clear of the letters.
    const cut = (x, y, tx, ty, by_) => {
      const way = Math.hypot(tx - x, ty - y) || 1;
      return [x + ((tx - x) / way) * by_, y + ((ty - y) / way) * by_];
    };
    const room = Math.min(cw, ch) * 0.55;
    const [sx, sy] = cut(ax, ay, mx, my, room);
    const [ex, ey] = cut(bx, by, mx, my, room);
    const angle = Math.atan2(ey - my, ex - mx);
    const head = 8 * ratio;
    for (const [ink, grow] of [[css(inks.paper), 3.5 * ratio], [css(inks.ink), 0]]) {
      context.strokeStyle = context.fillStyle = ink;
      context.lineWidth = 1.8 * ratio + grow;
      context.lineJoin = "round";
      context.beginPath();
      context.moveTo(sx, sy);
      context.quadraticCurveTo(mx, my, ex, ey);
      context.stroke();
      context.beginPath();
      context.arc(sx, sy, 2.6 * ratio + grow / 2, 0, 2 * Math.PI);
      context.fill();
      context.beginPath();
      context.moveTo(ex, ey);
      for (const side of [-0.45, 0.45]) {
        context.lineTo(ex - head * Math.cos(angle + side), ey - head * Math.sin(angle + side));
      }
      context.closePath();
      if (grow) context.stroke();
      context.fill();
    }
  }

  remove() {
    this.halt();
    this.model.off("change:step change:state", this.moved);
    this.still.removeEventListener("change", this.halt);
    super.remove();
  }
}

export default () => mapWidget(CompactionView, ["scan", "state"]);
