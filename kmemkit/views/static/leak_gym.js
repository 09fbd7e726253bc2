// The leak gym: a probe() whose error path can be changed, the table of all failing allocations,
// a question, and a run step by step. Python runs it; a change sends one message, and the page shows
// the state that comes back. Only going through the steps happens here.
import { badge, el, say } from "./common.js";
import { leakPicture } from "./leak_picture.js";

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key, fields) => say(texts, `leak_gym.${key}`, fields);
  const tell = (what, values = {}) => model.send({ do: what, ...values });
  const button = (label, onclick, props = {}) => el("button", { class: "km-button", type: "button", onclick, ...props }, label);
  const heading = (key) => el("p", { class: "km-leak-heading" }, words(key));

  const code = el("ol", { class: "km-leak-code", "aria-label": words("code") });
  const reset = button(words("reset"), () => tell("reset"));
  const message = el("p", { class: "km-message", role: "status" });
  const rows = el("tbody", {});
  const notes = el("div", {});
  const ask = el("div", { class: "km-ask", role: "group", "aria-label": words("commit") });
  const run = el("div", { class: "km-leak-run" });

  // -- the bar that goes through the steps ----------------------------------------------------------

  const shots = () => model.get("state").shots;
  const last = () => shots().length - 1;
  const goto = (step) => {
    model.set("step", Math.min(Math.max(step, 0), last()));
    model.save_changes();
  };
  const back = button("◀", () => goto(model.get("step") - 1), { "aria-label": words("back"), title: words("back") });
  const forward = button("▶", () => goto(model.get("step") + 1), { "aria-label": words("forward"), title: words("forward") });
  const slider = el("input", { type: "range", min: "0", class: "km-grow", "aria-label": words("history"), oninput: () => goto(Number(slider.value)) });
  const told = el("p", { class: "km-line", "aria-live": "polite" });
  const picture = el("div", { class: "km-leak-window", tabindex: "0", role: "group", "aria-label": words("picture") });
  const log = el("pre", { class: "km-text", tabindex: "0", role: "group", "aria-label": words("log") });
  const result = el("div", {});
  const reports = el("pre", { class: "km-text", tabindex: "0", role: "group", "aria-label": words("kmemleak") });
  const pages = el("p", { class: "km-quiet km-leak-keys" });
  const found = el("div", {}, heading("kmemleak"), reports, pages);
  const logs = el("div", {}, heading("log"), log, found, el("p", { class: "km-quiet km-leak-keys" }, words("keys")));
  run.append(el("div", { class: "km-bar" }, back, forward, slider), told, picture, result);
  picture.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -1e6, End: 1e6 }[event.key];
    if (!by) return;
    goto(model.get("step") + by);
    event.preventDefault();
  });

  const table = el(
    "table",
    { class: "km-leak-table" },
    el("thead", {}, el("tr", {}, ...["col_n", "col_fails", "col_result"].map((key) => el("th", { scope: "col" }, words(key))))),
    rows,
  );
  root.append(
    el(
      "div",
      { class: "kmemkit km-leak", role: "group", "aria-label": words("title") },
      el("div", { class: "km-head" }, el("span", { class: "km-title" }, words("title")), el("span", { class: "km-quiet" }, words("subtitle"))),
      el(
        "div",
        { class: "km-leak-columns" },
        el("div", { class: "km-leak-side" }, heading("code"), code, el("div", { class: "km-bar" }, reset), message, logs),
        el("div", { class: "km-leak-main" }, heading("table"), table, notes, ask, run),
      ),
      badge(model),
    ),
  );

  // -- the code -------------------------------------------------------------------------------------

  const choiceNode = ({ do: what, step, name, value, options }) => {
    const select = el(
      "select",
      { class: "km-field km-leak-choice", "aria-label": name, title: name, "data-key": `${what}-${step}`, onchange: () => tell(what, { step, value: select.value }) },
      ...options.map((one) => el("option", { value: one }, one)),
    );
    select.value = value;
    return select;
  };
  const moveNode = ({ step, up, down, first, last: bottom }) =>
    el(
      "span",
      { class: "km-leak-moves" },
      button("▲", () => tell("move", { step, by: -1 }), { "aria-label": up, title: up, disabled: first, "data-key": `up-${step}` }),
      button("▼", () => tell("move", { step, by: 1 }), { "aria-label": down, title: down, disabled: bottom, "data-key": `down-${step}` }),
    );
  const lineNode = ({ indent, text, choice, move }, number) =>
    el(
      "li",
      { class: "km-leak-code-line" },
      el("span", { class: "km-leak-number" }, String(number + 1)),
      el("span", { class: "km-leak-mark", "aria-hidden": "true" }),
      el("span", { class: "km-leak-source", style: `padding-left: ${indent / 2}ch` }, choice ? choiceNode(choice) : el("code", {}, text), move ? moveNode(move) : ""),
    );
  let written = "";
  const fillCode = (lines) => {
    const wanted = JSON.stringify(lines);
    if (wanted === written) return;
    written = wanted;
    const key = code.contains(document.activeElement) && document.activeElement.dataset.key;
    code.replaceChildren(...lines.map(lineNode));
    if (key) code.querySelector(`[data-key="${key}"]:not(:disabled)`)?.focus({ preventScroll: true });
  };

  // -- the table ------------------------------------------------------------------------------------

  const MARKS = { true: "✓ ", false: "✗ ", null: "" };
  const rowNode = ({ n, what, name, result: said, clean: ok }, chosen) =>
    el(
      "tr",
      { class: chosen ? "km-leak-chosen" : "", onclick: () => tell("n", { value: n }) },
      el("th", { scope: "row" }, el("button", { class: "km-button km-leak-n", type: "button", "aria-label": name, "aria-pressed": String(chosen), tabindex: chosen ? "0" : "-1" }, String(n))),
      el("td", {}, el("code", {}, what)),
      el("td", { class: ok === null ? "" : ok ? "km-leak-yes" : "km-leak-no" }, MARKS[ok] + said),
    );
  const fillRows = ({ rows: all, n }) => {
    const inside = rows.contains(document.activeElement);
    rows.replaceChildren(...all.map((row) => rowNode(row, row.n === n)));
    if (inside) rows.querySelector("[tabindex='0']").focus({ preventScroll: true });
  };
  rows.addEventListener("keydown", (event) => {
    const { n, rows: all } = model.get("state");
    const to = { ArrowUp: n - 1, ArrowLeft: n - 1, ArrowDown: n + 1, ArrowRight: n + 1, Home: 1, End: all.length }[event.key];
    if (to === undefined) return;
    if (to >= 1 && to <= all.length) tell("n", { value: to });
    event.preventDefault();
  });

  // -- the question ---------------------------------------------------------------------------------

  const VERDICTS = { true: ["✓", "right"], false: ["✗", "wrong"], null: ["?", "open"] };
  const verdictNode = ({ right, sentence, idea, why }) => {
    const [sign, name] = VERDICTS[right];
    return el(
      "div",
      { class: `km-verdict km-${name}`, role: "status" },
      el("p", { class: "km-outcome" }, el("span", { "aria-hidden": "true" }, sign), ` ${sentence}`),
      ...(idea ? [el("p", {}, el("b", {}, idea), ` ${why}`)] : []),
    );
  };
  const score = el("span", { class: "km-quiet" });
  const freePlay = el("input", { type: "checkbox", onchange: () => tell("free_play", { on: freePlay.checked }) });
  const freePlayLabel = el("span", {});
  let asked = "";
  const fillQuiz = ({ quiz, asking, n }) => {
    ask.hidden = !quiz;
    if (!quiz) return;
    score.textContent = quiz.score;
    freePlay.checked = quiz.free_play;
    freePlayLabel.textContent = words(quiz.unlocked ? "free_play" : "free_play_locked");
    const wanted = JSON.stringify([asking, n, written, quiz.verdict]);
    if (wanted === asked) return;
    asked = wanted;
    const inside = ask.contains(document.activeElement);
    const boxes = quiz.options.map(([value, label]) => [el("input", { type: "checkbox", value }), label]);
    const answers = () => boxes.map(([box]) => box).filter((box) => box.checked).map((box) => box.value);
    const next = button(words("next"), () => tell("next"));
    const commit = button(words("commit"), () => tell("commit", { answers: answers() }));
    const bar = asking ? [commit, button(words("unknown"), () => tell("unknown"))] : [next];
    const tick = ([box, label], at) => el("label", { class: "km-check" }, box, at < boxes.length - 1 ? el("code", {}, label) : label);
    ask.replaceChildren(
      ...(asking ? [el("fieldset", {}, el("legend", {}, quiz.ask), ...boxes.map(tick))] : []),
      ...(quiz.verdict ? [verdictNode(quiz.verdict)] : []),
      el("div", { class: "km-bar" }, ...bar, score, el("label", { class: "km-check" }, freePlay, freePlayLabel)),
      ...(asking ? [el("p", { class: "km-quiet" }, `${words("hint_none")} ${words("hidden")}`)] : []),
    );
    if (inside) (asking ? boxes[0][0] : next).focus({ preventScroll: true });
  };

  // -- the run --------------------------------------------------------------------------------------

  const fillResult = ({ result: said }) => {
    if (!said) return result.replaceChildren();
    result.replaceChildren(
      el(
        "div",
        { class: `km-verdict km-${said.clean ? "right" : "wrong"}` },
        el("p", { class: "km-outcome" }, el("span", { "aria-hidden": "true" }, said.clean ? "✓ " : "✗ "), said.verdict),
        ...said.findings.map((one) => el("p", {}, one)),
      ),
    );
    reports.textContent = said.reports.join("\n") || words("kmemleak_none");
    pages.textContent = said.pages.join(" ");
    pages.hidden = !said.pages.length;
  };
  const SIGNS = { ok: "▶", null: "∅", bad: "✗", oops: "✗", return: "▶" };
  const fillStep = () => {
    const all = shots();
    run.hidden = logs.hidden = all.length === 0;
    const lines = [...code.children];
    for (const line of lines) {
      line.classList.remove("km-leak-ran", "km-leak-now", "km-leak-bad");
      line.children[1].textContent = "";
    }
    if (!all.length) return;
    const step = Math.min(model.get("step"), last());
    const shot = all[step];
    slider.max = String(last());
    slider.value = String(step);
    slider.setAttribute("aria-valuetext", shot.told);
    back.disabled = step === 0;
    forward.disabled = step === last();
    told.textContent = shot.told;
    const name = shot.things.map(({ line }) => line).join("\n");
    picture.replaceChildren(leakPicture(shot, name));
    result.hidden = found.hidden = step < last();
    const said = all.slice(0, step + 1).flatMap((one) => one.log);
    log.textContent = said.join("\n") || words("silent");
    for (const [at, { line, sign }] of all.slice(0, step + 1).entries()) {
      const node = lines[line];
      const bad = sign === "bad" || sign === "oops";
      node.classList.add("km-leak-ran");
      if (bad) node.classList.add("km-leak-bad");
      if (at === step) node.classList.add("km-leak-now");
      if (at === step || bad || sign === "null") node.children[1].textContent = SIGNS[sign];
    }
  };

  const update = () => {
    const state = model.get("state");
    fillCode(state.lines);
    fillRows(state);
    notes.replaceChildren(...state.notes.map((one) => el("div", { class: "km-quiet" }, one)));
    reset.disabled = !state.changed;
    message.textContent = state.message;
    message.hidden = !state.message;
    fillQuiz(state);
    fillResult(state);
    fillStep();
  };
  model.on("change:state", update);
  model.on("change:step", fillStep);
  update();
  return () => {
    model.off("change:state", update);
    model.off("change:step", fillStep);
  };
}

export default { render };
