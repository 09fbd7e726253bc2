// The ladder: rungs as rows, a walk that tells one after the other, two roads side by side. The
// page walks by itself and says where it is (`at`, `told`); everything else is Python's.
import { badge, el, say } from "./common.js";
import { maskTable } from "./ladder_table.js";

/** Where a guess stands on the ladder if it is not the rung's own name. */
const ROW_OF = { kill: "oom", forever: "retry", bug: null, "": null };

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key, fields) => say(texts, `ladder.${key}`, fields);
  const send = (what, values = {}) => model.send({ do: what, ...values });
  const state = () => model.get("state");

  // -- what the reader can choose and do --------------------------------------------------------

  const select = (key) => {
    const node = el("select", { class: "km-field", onchange: () => send(key, { to: Number(node.value) }) });
    return [node, el("label", { class: "km-labelled" }, words(key), node)];
  };
  const [masks, maskField] = select("gfp");
  const [orders, orderField] = select("order");
  const [others, otherField] = select("against");
  const controls = el("div", { class: "km-bar km-rl-controls" }, maskField, orderField, otherField);

  const question = el("p", { class: "km-question" });
  const answer = el("select", {
    class: "km-field",
    "aria-label": words("answer_label"),
    onchange: () => paint(),
  });
  const commit = el("button", { class: "km-button", type: "button" }, words("commit"));
  const unknown = el("button", { class: "km-button", type: "button" }, words("answer.unknown"));
  commit.addEventListener("click", () => send("commit", { answer: answer.value }));
  unknown.addEventListener("click", () => send("commit", { answer: "unknown" }));
  const ask = el(
    "div",
    { class: "km-ask", role: "group", "aria-label": words("answer_label") },
    question,
    el("div", { class: "km-bar" }, answer, commit, unknown, el("span", { class: "km-quiet" }, words("ask_hint"))),
  );

  const button = (key, go) => {
    const props = { class: "km-button", type: "button", title: words(`${key}_hint`), onclick: go };
    return el("button", props, words(key));
  };
  const start = button("start", () => move("start"));
  const back = button("back", () => move("back"));
  const forward = button("forward", () => move("forward"));
  const finish = button("finish", () => move("finish"));
  const where = el("span", { class: "km-where", role: "status" });
  const bar = el("div", { class: "km-bar" }, start, back, forward, finish, where);

  const head = el("tr", {});
  const body = el("tbody", {});
  const ladder = el("table", { class: "km-rl-ladder" }, el("thead", {}, head), body);
  const line = el("div", { class: "km-line", role: "status" });
  const reasons = el("div", {});
  const parts = el("p", { class: "km-rl-parts", role: "status" });
  const verdict = el("div", { role: "status" });
  const message = el("p", { class: "km-message", role: "status" });
  const score = el("p", { class: "km-quiet km-score" });
  const table = maskTable(model, (mask, rung) => send("open", { mask, rung }), () => send("reveal"));
  const frame = el(
    "div",
    { class: "kmemkit km-rl", role: "group", "aria-label": words("title") },
    el("div", { class: "km-head" }, el("span", { class: "km-title" }, words("title"))),
    controls,
    table.node,
    message,
    ask,
    bar,
    el("div", { class: "km-scroll" }, ladder),
    line,
    reasons,
    parts,
    verdict,
    score,
    badge(model),
  );
  root.append(frame);

  // -- walking ----------------------------------------------------------------------------------

  let at = 0;
  let told = 0;
  const whole = () => told === state().stops.length && told > 0;
  const goTo = (index) => {
    const last = state().stops.length;
    if (!last) return;
    at = Math.max(0, Math.min(index, last - 1));
    told = Math.max(told, at + 1);
    paint();
    model.set({ at, told });
    model.save_changes();
  };
  const move = (how) =>
    goTo({ start: 0, back: at - 1, forward: at + 1, finish: state().stops.length - 1 }[how]);
  const keys = {
    ArrowUp: "back", ArrowLeft: "back", ArrowDown: "forward", ArrowRight: "forward", Home: "start", End: "finish",
  }; // prettier-ignore
  frame.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLSelectElement || !(event.key in keys) || !told) return;
    event.preventDefault();
    const onRung = body.contains(document.activeElement);
    move(keys[event.key]);
    if (onRung) body.querySelector("[aria-current] button")?.focus();
  });

  // -- the rows ---------------------------------------------------------------------------------

  /** What a row shows: a rung on the way down (round 0), in a round of the loop, or NULL. */
  const rowsFor = (round) => {
    const seen = state().stops.slice(0, told);
    const inLoop = (name) => seen.some((stop) => stop.rung === name && stop.round > 0);
    const down = [];
    const loop = [];
    const after = [];
    state().rungs.forEach(([name, title, loops], number) => {
      const row = { name, title, number };
      if (name === "null") after.push({ ...row, round: 0 });
      else if (!loops && (number || seen.some((stop) => stop.rung === name))) down.push({ ...row, round: 0 });
      if (name !== "null" && (loops || inLoop(name))) loop.push({ ...row, round });
    });
    return { down, loop, after };
  };

  const stopAt = ({ name, round }) => {
    let found = -1;
    state().stops.slice(0, told).forEach((stop, index) => {
      if (stop.rung === name && stop.round === round) found = index;
    });
    return found;
  };

  /** What a cell says: sign and word of the outcome, and the line that decided. */
  const said = (sign, word, decided, look) => [
    el(
      "span",
      { class: `km-rl-what ${look}` },
      el("span", { class: "km-rl-sign", "aria-hidden": "true" }, sign),
      ` ${word}`,
    ),
    decided ? el("span", { class: `km-rl-line ${look === "km-quiet" ? look : ""}` }, decided) : "",
  ];

  /** What one road says in a row that it has no stand for. */
  const empty = (row, road) => {
    if (!whole()) return [];
    const why = state().out[road][row.name];
    if (state().stops.some((stop) => stop.rung === row.name && stop.round && stop.cells[road])) {
      return said("·", words("other_round"), "", "km-quiet");
    }
    return why
      ? said("–", say(texts, "road.outcome.skip"), why, "km-quiet")
      : said("·", words("ahead"), "", "km-quiet");
  };
  const stand = (cell) =>
    cell
      ? said(cell[1], cell[2], cell[3], `km-rl-${cell[0]}`)
      : said("·", say(texts, "road.absent"), "", "km-quiet");

  const rowNode = (row) => {
    const index = stopAt(row);
    const stop = state().stops[index];
    const out = whole() && !stop && state().out.every((left) => row.name in left);
    const here = index >= 0 && index === at;
    const parting = index >= 0 && index === state().parting;
    const guess = ROW_OF[told ? state().said : answer.value] ?? (told ? state().said : answer.value);
    const pick = () => {
      if (index >= 0) goTo(index);
      else if (!told && [...answer.options].some((option) => option.value === row.name)) {
        answer.value = row.name;
        paint();
      }
    };
    const name = el(
      "button",
      { type: "button", class: "km-rl-rung", tabindex: here ? "0" : "-1" },
      out ? el("s", {}, row.title) : row.title,
    );
    const mark = (key, on) => (on ? el("span", { class: "km-rl-mark" }, words(key)) : "");
    const roads = state().heads;
    const alike = stop && roads.length > 1 && JSON.stringify(stop.cells[0]) === JSON.stringify(stop.cells[1]);
    const cells = alike
      ? [el("td", { colspan: roads.length }, ...stand(stop.cells[0]))]
      : roads.map((_, road) => el("td", {}, ...(stop ? stand(stop.cells[road]) : empty(row, road))));
    const looks = { "km-rl-here": here, "km-rl-parting": parting, "km-rl-untold": index < 0 };
    return el(
      "tr",
      {
        class: Object.keys(looks).filter((look) => looks[look]).join(" "),
        "aria-current": here ? "step" : null,
        onclick: pick,
      },
      el("td", { class: "km-rl-number" }, here ? el("span", { "aria-hidden": "true" }, "▶") : String(row.number)),
      el("th", { class: "km-rl-name", scope: "row" }, name, mark("parts_here", parting), mark("guess", guess === row.name)),
      ...cells,
    );
  };

  /** The rounds told so far, as a row of buttons; the one shown is pressed. */
  const roundsRow = (shown) => {
    const stops = state().stops.slice(0, told);
    const last = Math.max(...stops.map((stop) => stop.round), 0);
    const chips = [];
    for (let round = 1; round <= last; round += 1) {
      const first = stops.findIndex((stop) => stop.round === round);
      const ends = stops.filter((stop) => stop.round === round).at(-1).cells;
      const sign = ends.length === 1 ? ` ${ends[0][1]}` : "";
      const label = words("round_label", { round, word: ends.map((end) => end?.[2] ?? "–").join(", ") });
      const props = { type: "button", class: "km-button km-rl-round", "aria-pressed": String(round === shown) };
      chips.push(el("button", { ...props, "aria-label": label, title: label, onclick: () => goTo(first) }, `${round}${sign}`));
    }
    const span = 1 + state().heads.length;
    const cell = el("td", { colspan: span }, el("div", { class: "km-bar" }, el("span", { class: "km-quiet" }, words("rounds")), ...chips));
    return last ? [el("tr", { class: "km-rl-rounds" }, el("td", {}), cell)] : [];
  };

  const endRow = () => {
    const done = whole();
    const cells = state().heads.map((_, road) => {
      const [end, sentence] = done ? state().ends[road] : ["ahead", "?"];
      return el("td", { class: `km-rl-${end}` }, sentence);
    });
    return el("tr", { class: "km-rl-result" }, el("td", {}), el("th", { scope: "row" }, words("end_head")), ...cells);
  };

  let shownRound = 1;
  const paint = () => {
    const { stops, heads } = state();
    const focus = body.contains(document.activeElement) ? document.activeElement.textContent : null;
    const here = (told && stops[at]) || null;
    if (here?.round) shownRound = here.round;
    const rows = rowsFor(shownRound);
    body.replaceChildren(
      ...rows.down.map(rowNode),
      ...roundsRow(shownRound),
      ...rows.loop.map((row) => {
        const node = rowNode(row);
        node.classList.add("km-rl-loop");
        return node;
      }),
      ...rows.after.map(rowNode),
      endRow(),
    );
    if (focus !== null) [...body.querySelectorAll("button")].find((node) => node.textContent === focus)?.focus();
    bar.hidden = !told;
    const places = { told: at + 1, all: whole() ? stops.length : "…" };
    where.textContent = told ? words("where", places) : "";
    back.setAttribute("aria-disabled", String(at === 0));
    start.setAttribute("aria-disabled", String(at === 0));
    forward.setAttribute("aria-disabled", String(at === stops.length - 1));
    finish.setAttribute("aria-disabled", String(at === stops.length - 1));
    paintLine(here, heads.length > 1);
    parts.hidden = !whole() || !state().parts;
    parts.textContent = state().parts;
    paintVerdict();
  };

  const paintLine = (stop, two) => {
    line.hidden = !stop;
    reasons.replaceChildren();
    if (!stop) return;
    line.replaceChildren(el("b", {}, stop.title));
    const alike = two && JSON.stringify(stop.cells[0]) === JSON.stringify(stop.cells[1]);
    const letters = alike ? ["a, b: "] : two ? ["a: ", "b: "] : [""];
    letters.forEach((letter, road) => {
      const [, sign, word, decided, all] = stop.cells[road] ?? ["", "·", say(texts, "road.absent"), "", []];
      line.append(el("div", {}, `${letter}${sign} ${word}${decided ? `: ${decided}` : ""}`));
      if (all.length < 2) return;
      reasons.append(
        el("p", { class: "km-quiet" }, `${letter}${words("reasons", { count: all.length })}`),
        el("ol", { class: "km-why" }, ...all.map((reason) => el("li", {}, reason))),
      );
    });
  };

  const paintVerdict = () => {
    const given = whole() ? state().verdict : null;
    verdict.hidden = !given;
    if (!given) return;
    const sign = { true: "\u2713", false: "\u2717", null: "?" }[given.right];
    verdict.className = `km-verdict km-${{ true: "right", false: "wrong", null: "open" }[given.right]}`;
    verdict.replaceChildren(
      el("p", { class: "km-outcome" }, el("span", { "aria-hidden": "true" }, sign), ` ${given.sentence}`),
      ...(given.idea ? [el("p", {}, el("b", {}, given.idea), ` ${given.why}`)] : []),
    );
  };

  // -- what Python says -------------------------------------------------------------------------

  const fill = (node, pairs, chosen) => {
    node.replaceChildren(...pairs.map(([value, label]) => el("option", { value }, label)));
    node.value = String(chosen);
  };
  let asked = null;
  const update = () => {
    const { controls: chosen, heads, question: open } = state();
    controls.hidden = !chosen;
    if (chosen) {
      fill(masks, chosen.masks.map((label, n) => [n, label]), chosen.mask);
      fill(orders, chosen.orders.map((label, n) => [n, label]), chosen.order);
      fill(others, [[-1, words("nothing")], ...chosen.others.map((label, n) => [n, label])], chosen.other);
    }
    table.update();
    message.textContent = state().message;
    message.hidden = !state().message;
    score.textContent = state().score;
    score.hidden = !state().score;
    const letter = (road) => (heads.length > 1 ? `${"ab"[road]}: ` : "");
    head.replaceChildren(
      el("td", { class: "km-rl-number" }),
      el("th", { class: "km-rl-name", scope: "col" }, words("rung_head")),
      ...heads.map((title, road) => el("th", { scope: "col" }, el("code", {}, `${letter(road)}${title}`))),
    );
    question.textContent = open;
    if (open !== asked) turn(open);
    place();
  };

  /** Open or close the question, and keep the keyboard where the learner goes on. */
  const turn = (open) => {
    const inside = ask.contains(document.activeElement);
    asked = open;
    shownRound = 1;
    ask.hidden = !open;
    const choices = state().answers.filter(([key]) => key !== "unknown");
    if (open) fill(answer, [["", words("choose")], ...choices], "");
    if (!open && inside) {
      bar.hidden = false;
      forward.focus({ preventScroll: true });
    }
  };
  const walked = () => {
    // What the page itself has set is painted already.
    if (at !== model.get("at") || told !== model.get("told")) place();
  };
  const place = () => {
    at = model.get("at");
    told = model.get("told");
    paint();
  };

  model.on("change:state", update);
  model.on("change:at", walked);
  model.on("change:told", walked);
  update();
  return () => {
    model.off("change:state", update);
    model.off("change:at", walked);
    model.off("change:told", walked);
  };
}

export default { render };
