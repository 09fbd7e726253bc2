// The pairing table: kernels to choose from, a grid of codes that fills, the chosen cell below it:
// its two calls, a question or what happened, the memory as rows of cells, the kernel's log. Python
// runs the cells; a press sends one message, and the page shows what comes back.
import { el, say } from "./common.js";

/** Looks of a code by its first letter. */
const LOOKS = { o: "ok", S: "silent", W: "report", O: "oops", H: "hung", P: "panic", "…": "pending", "?": "hidden", "·": "none" };
/** Looks of a page's letter, capital or small; the page map's own. */
const PAGES = { U: "unmovable", M: "movable", R: "reclaimable", S: "slab", P: "pcp", X: "reserved", "!": "leaked" };
/** Looks of an object. */
const OBJECTS = { "#": "slab", "!": "leaked" };

const look = (code) => `km-pair-code km-pair-${LOOKS[code[0]]}${code.includes("!") && code.length > 1 ? " km-pair-later" : ""}`;

/** A function's name that may break behind its underscores. */
const breakable = (name) => name.split(/(?<=_)(?=[a-z])/).flatMap((part, n) => (n ? [el("wbr"), part] : [part]));

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key, fields) => say(texts, `pairing_table.${key}`, fields);
  const tell = (what, values = {}) => model.send({ do: what, ...values });
  const { rows, columns, legend } = model.get("_frame");
  // Radio buttons of one name exclude each other on the whole page, and each view loads this module
  // for itself: it cannot count them.
  const number = Math.random().toString(36).slice(2);
  const button = (label, onclick, props = {}) => el("button", { class: "km-button", type: "button", onclick, ...props }, label);
  const heading = (key) => el("p", { class: "km-pair-heading" }, words(key));

  // -- kernels --------------------------------------------------------------------------------------

  const kernels = el("div", { class: "km-bar km-pair-kernels", role: "group", "aria-label": words("kernel_label") });
  const chips = model.get("grid").kernels.map(([name, label]) => {
    const code = el("span", {});
    const node = el("button", { class: "km-button", type: "button", onclick: () => tell("kernel", { value: name }) }, label, " ", code);
    kernels.append(node);
    return { node, code };
  });
  const fillKernels = ({ kernels: all, kernel }) => {
    kernels.hidden = all.length < 2;
    for (const [n, [name, , code]] of all.entries()) {
      chips[n].node.setAttribute("aria-pressed", String(name === kernel));
      chips[n].code.className = look(code);
      chips[n].code.textContent = code;
    }
  };

  // -- the table ------------------------------------------------------------------------------------

  const groups = [];
  for (const column of columns) {
    const last = groups.at(-1);
    if (column.variant && last?.name === column.function) last.count += 1;
    else groups.push({ name: column.function, count: 1, single: !column.variant });
  }
  const single = ({ single: alone, count, name }) =>
    alone ? el("th", { scope: "col", rowspan: 2 }, ...breakable(name)) : el("th", { scope: "colgroup", colspan: count }, ...(count > 1 ? [name] : breakable(name)));
  const heads = [
    el("tr", { role: "row" }, el("th", { scope: "col", rowspan: 2, class: "km-pair-corner" }, words("column_memory")), ...groups.map(single)),
    el("tr", { role: "row" }, ...columns.filter(({ variant }) => variant).map(({ variant }) => el("th", { scope: "col" }, variant))),
  ];
  const cells = rows.map((row) =>
    columns.map((column) => {
      const code = el("span", { "aria-hidden": "true" });
      const td = el("td", { role: "gridcell", tabindex: "-1", onclick: () => choose(row.name, column.name) }, code);
      return { td, code };
    }),
  );
  const body = el("tbody", {});
  for (const [r, row] of rows.entries()) {
    body.append(el("tr", { role: "row" }, el("th", { scope: "row" }, row.label), ...cells[r].map(({ td }) => td)));
  }
  const table = el("table", { class: "km-pair-table", style: `--km-pair-columns: ${columns.length}`, role: "grid", "aria-label": words("label") }, el("thead", {}, ...heads), body);
  const codes = () => model.get("grid").codes;

  /** The cell that Tab leads to: the one that was last under the keyboard, else the chosen one. */
  let here = [0, 0];
  const choose = (row, column) => {
    const at = [rows.findIndex(({ name }) => name === row), columns.findIndex(({ name }) => name === column)];
    if (codes()[at[0]][at[1]] === "·") return;
    here = at;
    tell("select", { row, column });
  };
  const move = (r, c) => {
    here = [Math.min(Math.max(r, 0), rows.length - 1), Math.min(Math.max(c, 0), columns.length - 1)];
    rove();
    cells[here[0]][here[1]].td.focus();
  };
  const rove = () => {
    for (const [r, row] of cells.entries()) {
      for (const [c, { td }] of row.entries()) td.tabIndex = r === here[0] && c === here[1] ? 0 : -1;
    }
  };
  body.addEventListener("keydown", (event) => {
    const [r, c] = here;
    const acts = {
      ArrowLeft: () => move(r, c - 1),
      ArrowRight: () => move(r, c + 1),
      ArrowUp: () => move(r - 1, c),
      ArrowDown: () => move(r + 1, c),
      Home: () => move(event.ctrlKey ? 0 : r, 0),
      End: () => move(event.ctrlKey ? rows.length - 1 : r, columns.length - 1),
      Enter: () => choose(rows[r].name, columns[c].name),
      " ": () => choose(rows[r].name, columns[c].name),
    };
    if (!Object.hasOwn(acts, event.key)) return;
    acts[event.key]();
    event.preventDefault();
    event.stopPropagation();
  });
  body.addEventListener("focusin", ({ target }) => {
    for (const [r, row] of cells.entries()) {
      const c = row.findIndex(({ td }) => td === target);
      if (c >= 0) here = [r, c];
    }
    rove();
  });

  let chosen = "";
  const fillGrid = () => {
    const grid = model.get("grid");
    for (const [r, row] of grid.codes.entries()) {
      for (const [c, code] of row.entries()) {
        const { td, code: span } = cells[r][c];
        const picked = rows[r].name === grid.row && columns[c].name === grid.column;
        const { function: name, variant } = columns[c];
        td.setAttribute("aria-selected", String(picked));
        td.setAttribute("aria-label", `${rows[r].label}, ${name}${variant ? ` ${variant}` : ""}: ${grid.spoken[code]}`);
        td.title = grid.spoken[code];
        span.textContent = code;
        span.className = look(code);
        if (picked && chosen !== `${grid.row} ${grid.column}`) {
          chosen = `${grid.row} ${grid.column}`;
          here = [r, c];
          rove();
        }
      }
    }
    for (const [r, tr] of [...body.children].entries()) tr.classList.toggle("km-pair-line", rows[r].name === grid.row);
    fillKernels(grid);
    progress.textContent = grid.progress;
    bar.max = grid.count;
    bar.value = grid.done;
    bar.hidden = grid.done === grid.count;
    message.textContent = grid.message;
    message.hidden = !grid.message;
  };
  const bar = el("progress", { "aria-label": words("title") });
  const progress = el("span", { class: "km-quiet" });
  const message = el("p", { class: "km-message", role: "status" });
  const swatch = ([sign, what]) => el("span", { class: what === "mark" ? "km-pair-sign" : look(sign), "aria-hidden": "true" }, sign);
  const signs = el("ul", { class: "km-legend", "aria-label": words("legend") }, ...legend.map((one) => el("li", {}, swatch(one), one[2])));

  // -- the chosen cell ------------------------------------------------------------------------------

  const calls = el("pre", { class: "km-pair-calls" });
  const outcome = el("div", { class: "km-pair-outcome", "aria-live": "polite" });
  const ask = el("div", { class: "km-ask", role: "group", "aria-label": words("ask") });
  const frames = el("div", { class: "km-pair-frames" });
  const picture = el("div", { class: "km-pair-picture" }, heading("picture"), frames);
  const log = el("pre", { class: "km-text km-pair-log", tabindex: "0", role: "group", "aria-label": words("report") });
  const reasons = el("div", { class: "km-pair-reasons" });
  const why = el("div", { class: "km-pair-why" }, heading("why"), reasons);
  const said = el("div", { class: "km-pair-columns" }, el("div", { class: "km-pair-said" }, heading("report"), log), why);

  const cellNode = (kind, own, letter, n) => {
    const looks = kind === "objects" ? OBJECTS : PAGES;
    const name = looks[letter] ?? looks[letter.toUpperCase()];
    const mine = own[0] <= n && n < own[1];
    const edges = `${n === own[0] ? " km-pair-first" : ""}${n === own[1] - 1 ? " km-pair-last" : ""}`;
    const solid = name ? `km-${name}` : "km-pair-free";
    return el("span", { class: `km-pair-page ${mine ? `km-pair-own${edges}` : ""}` }, el("span", { class: solid }, letter));
  };
  const frameNode = ({ name, cells: letters, own, note }, kind, key) => {
    const marked = letters ? `${letters.slice(0, own[0])}[${letters.slice(...own)}]${letters.slice(own[1])}` : "";
    return el(
      "div",
      { class: "km-pair-frame" },
      el("code", {}, name),
      el("div", { class: "km-pair-strip", role: "img", "aria-label": `${key} ${marked} ${note}` }, ...[...letters].map((letter, n) => cellNode(kind, own, letter, n))),
      el("span", { class: "km-quiet" }, note),
    );
  };
  const whyNode = ([head, sentence], _, all) => el("p", {}, ...(all.length > 1 ? [el("code", {}, head), " "] : []), sentence);
  const fillPanel = () => {
    const { calls: two, code, facts = [], report = [], why: reasonsTold = [], kind, key, moments = [] } = model.get("panel");
    calls.textContent = two.join("\n");
    const [verdict, ...rest] = facts;
    outcome.hidden = said.hidden = !verdict;
    outcome.replaceChildren(
      ...(verdict ? [el("p", { class: "km-outcome" }, el("span", { class: look(code), "aria-hidden": "true" }, code), verdict), el("ul", {}, ...rest.map((one) => el("li", {}, one)))] : []),
    );
    picture.hidden = !moments.length;
    frames.replaceChildren(...moments.map((one) => frameNode(one, kind, key)), el("p", { class: "km-quiet" }, key ?? ""));
    log.textContent = report.join("\n") || words("silent");
    log.scrollTop = 0;
    reasons.replaceChildren(...reasonsTold.map(whyNode));
    why.hidden = !reasonsTold.length;
  };

  // -- the question ---------------------------------------------------------------------------------

  const VERDICTS = { true: ["✓", "right"], false: ["✗", "wrong"], null: ["?", "open"] };
  const verdictNode = ({ right, sentence, idea, why: told }) => {
    const [sign, name] = VERDICTS[right];
    return el(
      "div",
      { class: `km-verdict km-${name}`, role: "status" },
      el("p", { class: "km-outcome" }, el("span", { "aria-hidden": "true" }, sign), ` ${sentence}`),
      ...(idea ? [el("p", {}, el("b", {}, idea), ` ${told}`)] : []),
    );
  };
  const choice = (name, legendText, options) => {
    const inputs = options.map(([value]) => el("input", { type: "radio", name: `pair-${name}-${number}`, value }));
    const labels = options.map(([, label], n) => el("label", { class: "km-check" }, inputs[n], label));
    return { inputs, node: el("fieldset", {}, el("legend", {}, legendText), ...labels), value: () => inputs.find(({ checked }) => checked)?.value };
  };
  const score = el("span", { class: "km-quiet" });
  const freePlay = el("input", { type: "checkbox", onchange: () => tell("free_play", { on: freePlay.checked }) });
  const freePlayLabel = el("span", {});
  let asked = "";
  const fillQuestion = () => {
    const quiz = model.get("question");
    ask.hidden = !quiz;
    if (!quiz) return;
    score.textContent = quiz.score;
    freePlay.checked = quiz.free_play;
    freePlayLabel.textContent = words(quiz.unlocked ? "free_play" : "free_play_locked");
    const asking = !model.get("panel").facts;
    const wanted = JSON.stringify([asking, model.get("panel").calls, model.get("grid").kernel, quiz.verdict]);
    if (wanted === asked) return;
    asked = wanted;
    const inside = ask.contains(document.activeElement);
    const what = choice("verdict", words("ask"), quiz.answers);
    const memory = choice("memory", words("ask_memory"), quiz.memory);
    const both = quiz.memory.length ? [what, memory] : [what];
    const commit = button(words("commit"), () => tell("commit", { verdict: what.value(), memory: memory.value() ?? null }), { disabled: true });
    const ready = () => (commit.disabled = !both.every((one) => one.value()));
    for (const one of both) one.node.addEventListener("change", ready);
    ask.replaceChildren(
      ...(asking ? both.map(({ node }) => node) : []),
      ...(quiz.verdict ? [verdictNode(quiz.verdict)] : []),
      el("div", { class: "km-bar" }, ...(asking ? [commit, button(words("unknown"), () => tell("unknown"))] : []), score, el("label", { class: "km-check" }, freePlay, freePlayLabel)),
      ...(asking ? [el("p", { class: "km-quiet" }, words("hidden"))] : []),
    );
    if (inside) (asking ? what.inputs[0] : cells[here[0]][here[1]].td).focus({ preventScroll: true });
  };

  root.append(
    el(
      "div",
      { class: "kmemkit km-pair", role: "group", "aria-label": words("title") },
      el("div", { class: "km-head" }, el("span", { class: "km-title" }, words("title")), el("span", { class: "km-quiet" }, words("subtitle"))),
      kernels,
      el("div", { class: "km-scroll km-pair-scroll" }, table),
      el("div", { class: "km-bar km-pair-progress" }, bar, progress, el("span", { class: "km-quiet km-push" }, words("keys"))),
      signs,
      message,
      el("div", { class: "km-pair-panel" }, el("div", { class: "km-pair-columns" }, el("div", { class: "km-pair-what" }, calls, ask, outcome), picture), said),
    ),
  );

  const fillAll = () => {
    fillPanel();
    fillQuestion();
  };
  model.on("change:grid", fillGrid);
  model.on("change:panel change:question change:grid", fillQuestion);
  model.on("change:panel", fillPanel);
  fillGrid();
  fillAll();
  tell("here");
  return () => {
    model.off("change:grid", fillGrid);
    model.off("change:panel change:question change:grid", fillQuestion);
    model.off("change:panel", fillPanel);
    tell("gone");
  };
}

export default { render };
