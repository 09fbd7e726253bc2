// The zonelist as a stack of zones, each with a bar of its pages and a gauge of its marks, and the
// walk down it. Positions, shares and sentences are Python's: a click or a key sends one message,
// and the page shows the state that comes back.
import { badge, el, say } from "./common.js";

/** The sign of each state, beside its word. */
const SIGNS = {
  waiting: "\u00b7",
  skipped: "\u2013",
  passed: "\u25cf",
  failed: "\u2717",
  no_block: "\u2717",
  empty: "\u2717",
  served: "\u2713",
};

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key, fields) => say(texts, `zonelist.${key}`, fields);
  const tell = (what, to = 0) => model.send({ do: what, to });

  const button = (key, what) =>
    el("button", { class: "km-button", type: "button", title: words(`${key}_hint`), onclick: () => tell(what) }, words(key));
  const plain = (key, what) => el("button", { class: "km-button", type: "button", onclick: () => tell(what) }, words(key));
  const choice = (key, what) => {
    const select = el("select", { class: "km-field", onchange: () => tell(what, select.value) });
    return [select, el("label", { class: "km-labelled" }, words(key), select)];
  };

  const head = el("span", { class: "km-quiet" });
  const [gfp, gfpLabel] = choice("request", "gfp");
  const [order, orderLabel] = choice("order", "order");
  const [nid, nidLabel] = choice("node", "nid");
  const controls = el("div", { class: "km-bar km-zl-request" }, gfpLabel, orderLabel, nidLabel);

  const question = el("p", { class: "km-question" });
  const choices = el("div", { class: "km-bar" });
  const ask = el("div", { class: "km-ask", role: "group", "aria-label": words("title") }, question, choices);

  const list = el("ol", { class: "km-zl-list", "aria-label": words("list") });
  const legend = el(
    "ul",
    { class: "km-legend km-zl-legend" },
    ...["free", "used", "pcp", "reserved", "hole"].map((part) =>
      el("li", {}, el("span", { class: `km-zl-key km-zl-${part}` }), say(texts, `zonelist.bar_part.${part}`)),
    ),
    el("li", {}, words("scale")),
  );
  const line = el("div", { class: "km-line", role: "status" }, words("hint"));

  const back = button("back", "back");
  const forward = button("forward", "forward");
  const end = plain("to_end", "end");
  const slider = el("input", {
    class: "km-grow",
    type: "range",
    min: 0,
    "aria-label": words("slider"),
    "aria-keyshortcuts": "ArrowLeft ArrowRight Home End",
    title: words("keys"),
    oninput: () => tell("seek", Number(slider.value)),
  });
  const where = el("span", { class: "km-where" });
  const again = plain("again_button", "ask");
  const steps = el("div", { class: "km-bar" }, back, forward, end, slider, where, again);

  const part = el("p", { class: "km-zl-part" });
  const lines = el("ol", { class: "km-why", "aria-live": "polite" });
  const said = el("p", { class: "km-quiet", role: "status" });
  const verdict = el("div", { role: "status" });
  const score = el("p", { class: "km-quiet km-score" });
  const twin = el("pre", { class: "km-text", tabindex: "0", role: "region", "aria-label": words("as_text") });

  const frame = el(
    "div",
    { class: "kmemkit km-zonelist", role: "group", "aria-label": words("title") },
    el("div", { class: "km-head" }, el("span", { class: "km-title" }, words("title")), head),
    controls,
    list,
    legend,
    line,
    ask,
    steps,
    part,
    lines,
    said,
    verdict,
    score,
    el("details", {}, el("summary", {}, words("as_text")), twin),
    badge(model),
  );
  root.append(frame);

  // -- one zone -----------------------------------------------------------------------------------

  /** The place whose line is shown; null while nobody points at one. */
  let pointed = null;
  const tellLine = () => {
    const rows = model.get("state").rows;
    line.textContent = pointed === null || !rows[pointed] ? words("hint") : rows[pointed].detail;
  };
  const stopAt = (place) => {
    [...list.querySelectorAll("button")].forEach((b, at) => b.setAttribute("tabindex", at === place ? "0" : "-1"));
  };

  const makeRow = (place) => {
    const name = el("button", {
      class: "km-zl-name",
      type: "button",
      tabindex: place ? "-1" : "0",
      onfocus: () => {
        pointed = place;
        stopAt(place);
        tellLine();
      },
      onblur: () => {
        pointed = null;
        tellLine();
      },
    });
    const state = el("span", { class: "km-zl-state" });
    const bar = el("span", { class: "km-zl-bar", role: "img" });
    const gauge = el("span", { class: "km-zl-gauge", role: "img" });
    const item = el(
      "li",
      {
        class: "km-zl-row",
        onpointerenter: () => {
          pointed = place;
          tellLine();
        },
        onpointerleave: () => {
          pointed = null;
          tellLine();
        },
      },
      el("span", { class: "km-zl-place", "aria-hidden": "true" }, String(place + 1)),
      name,
      el("span", { class: "km-zl-extent" }, bar),
      gauge,
      state,
    );
    return Object.assign(item, { parts: { name, state, bar, gauge } });
  };

  const percent = (share) => `${share.toFixed(2)}%`;

  const fillRow = (item, row, many, above) => {
    const { name, state, bar, gauge } = item.parts;
    item.classList.toggle("km-zl-current", row.current);
    item.classList.toggle("km-zl-node", many && (!above || above.nid !== row.nid));
    item.dataset.state = row.state;
    item.setAttribute("aria-current", row.current ? "step" : "false");
    name.replaceChildren(el("b", {}, row.name), many ? el("span", {}, words("node_short", { nid: row.nid })) : "");
    bar.style.width = percent(row.width);
    bar.setAttribute("aria-label", row.bar);
    bar.replaceChildren(...row.parts.map(([kind, share]) => el("span", { class: `km-zl-${kind}`, style: `flex-grow: ${share.toFixed(3)}` })));
    gauge.setAttribute("aria-label", row.gauge);
    const low = row.at < 22;
    gauge.replaceChildren(
      el("span", { class: "km-zl-kept", style: `width: ${percent(row.reserve_at)}` }),
      el("span", { class: "km-zl-level", style: `width: ${percent(row.at)}` }),
      row.torn ? el("span", { class: "km-zl-tear", style: `left: ${percent(row.ticks.at(-1)[3] + 3)}` }) : "",
      ...row.ticks.map(([names, label, pages, at]) =>
        el(
          "span",
          { class: names.includes(row.mark) ? "km-zl-tick km-zl-checked" : "km-zl-tick", style: `left: ${percent(at)}` },
          el("span", {}, label),
          el("span", {}, pages),
        ),
      ),
      el("span", { class: "km-zl-amount", style: low ? `left: ${percent(row.at)}` : `right: ${percent(100 - row.at)}` }, row.free),
    );
    state.replaceChildren(
      el("span", { class: "km-zl-badge" }, el("span", { "aria-hidden": "true" }, `${SIGNS[row.state]} `), row.badge),
      row.brief ? el("code", {}, row.brief) : "",
    );
  };

  // -- showing ------------------------------------------------------------------------------------

  /** Keep a select's choice while its options are renewed. */
  const options = (select, pairs, value) => {
    const same = [...select.options].map((o) => o.value).join("\n") === pairs.map(([v]) => v).join("\n");
    if (!same) select.replaceChildren(...pairs.map(([v, label]) => el("option", { value: v }, label)));
    select.value = value;
  };

  const showVerdict = (given) => {
    verdict.hidden = !given;
    if (!given) return;
    const sign = { true: "\u2713", false: "\u2717", null: "?" }[given.right];
    verdict.className = `km-verdict km-${{ true: "right", false: "wrong", null: "open" }[given.right]}`;
    verdict.replaceChildren(
      el("p", { class: "km-outcome" }, el("span", { "aria-hidden": "true" }, sign), ` ${given.sentence}`),
      ...(given.idea ? [el("p", {}, el("b", {}, given.idea), ` ${given.why}`)] : []),
    );
  };

  let asked = null;
  const update = () => {
    const state = model.get("state");
    head.textContent = state.head;
    controls.hidden = state.fixed;
    options(gfp, state.gfps, state.gfp);
    options(order, state.orders, state.order);
    options(nid, state.nids, state.nid);
    nidLabel.hidden = state.nids.length < 2;

    while (list.children.length > state.rows.length) list.lastChild.remove();
    while (list.children.length < state.rows.length) list.append(makeRow(list.children.length));
    state.rows.forEach((row, place) => fillRow(list.children[place], row, state.nids.length > 1, state.rows[place - 1]));
    tellLine();

    // A disabled button would drop the keyboard's focus; this one only says so.
    back.setAttribute("aria-disabled", String(state.step === 0));
    for (const node of [forward, end]) node.setAttribute("aria-disabled", String(state.step === state.last));
    slider.max = String(state.last);
    slider.value = String(state.step);
    slider.setAttribute("aria-valuetext", state.where);
    where.textContent = state.where;
    again.hidden = !state.score || state.step < state.last;

    part.textContent = state.part;
    part.hidden = !state.part;
    lines.setAttribute("start", String(state.first + 1));
    lines.replaceChildren(...state.lines.map((told) => el("li", {}, told)));
    const open = state.verdict ? "" : state.said;
    said.textContent = open;
    said.hidden = !open;
    showVerdict(state.verdict);
    score.textContent = state.score;
    score.hidden = !state.score;
    twin.textContent = state.text;
    turn(state);
  };

  /** Open or close the question, and keep the keyboard where the learner goes on. */
  const turn = (state) => {
    const inside = ask.contains(document.activeElement);
    question.textContent = state.question;
    const key = JSON.stringify([state.question, state.answers]);
    if (key !== asked) {
      asked = key;
      choices.replaceChildren(
        ...state.answers.map(([value, label]) =>
          el("button", { class: "km-button", type: "button", onclick: () => tell("answer", value) }, label),
        ),
      );
    }
    const focus = ask.hidden === false && inside && !state.asking;
    ask.hidden = !state.asking;
    steps.hidden = state.asking;
    if (focus) forward.focus({ preventScroll: true });
  };

  const keys = { ArrowLeft: "back", ArrowRight: "forward", Home: "start", End: "end" };
  frame.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.tagName === "SELECT" || target === twin) return;
    const names = [...list.querySelectorAll("button")];
    const at = names.indexOf(target);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1 }[event.key];
    if (at >= 0 && to !== undefined) names[Math.max(0, Math.min(names.length - 1, to))].focus();
    else if (event.key in keys && !model.get("state").asking) tell(keys[event.key]);
    else return;
    event.preventDefault();
  });

  model.on("change:state", update);
  update();
  return () => model.off("change:state", update);
}

export default { render };
