// The context stack: frames that are pushed and popped, a request, what two kernels do with it, and
// what would help. All of it is Python's to say: a press sends one message, and the page shows the
// state that comes back.
import { el, say } from "./common.js";

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key, fields) => say(texts, `context_stack.${key}`, fields);
  const tell = (what, values = {}) => model.send({ do: what, ...values });
  // Each view loads this module for itself, so counting would give two views one name
  const own = crypto.getRandomValues(new Uint32Array(2)).join("-");

  const button = (key, onclick) => el("button", { class: "km-button", type: "button", onclick }, words(key));
  const field = (key, control) => el("label", { class: "km-labelled" }, words(key), control);
  const chooser = (what) => {
    const select = el("select", { class: "km-field", onchange: () => tell(what, { value: select.value }) });
    return select;
  };

  const stack = el("ol", { class: "km-ctx-stack", "aria-label": words("stack") });
  const line = el("p", { class: "km-line" });
  const pushes = el("div", { class: "km-ctx-pushes" });
  const pop = el("button", { class: "km-button km-ctx-pop", type: "button", onclick: () => tell("pop") }, words("pop"));
  const gfp = chooser("gfp");
  const order = chooser("order");
  const message = el("p", { class: "km-message", role: "status" });
  const ask = el("div", { class: "km-ask", role: "group", "aria-label": words("ask.title") });
  const shown = el("div", { class: "km-ctx-shown" });
  const road = el("details", {}, el("summary", {}, words("road")), el("ol", { class: "km-why" }));

  const frame = el(
    "div",
    { class: "kmemkit km-ctx", role: "group", "aria-label": words("title") },
    el(
      "div",
      { class: "km-head" },
      el("span", { class: "km-title" }, words("title")),
      el("span", { class: "km-quiet" }, words("subtitle")),
    ),
    el(
      "div",
      { class: "km-ctx-columns" },
      el("div", { class: "km-ctx-side" }, el("p", { class: "km-ctx-head" }, words("stack")), stack, el("p", { class: "km-ctx-head" }, words("push")), pushes, line),
      el(
        "div",
        { class: "km-ctx-main" },
        el("div", { class: "km-bar km-ctx-request" }, field("gfp", gfp), field("order", order)),
        message,
        ask,
        shown,
        road,
      ),
    ),
  );
  root.append(frame);

  // -- keys: Backspace pops, the arrows move along the buttons -------------------------------------

  frame.addEventListener("keydown", (event) => {
    const row = event.target.closest?.(".km-ctx-pushes");
    if (event.key === "Backspace") tell("pop");
    else if (row && ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) rove(event);
    else return;
    event.preventDefault();
  });
  const stops = () => [...pushes.querySelectorAll("button")];
  const rove = (event) => {
    const all = stops();
    const at = all.indexOf(document.activeElement);
    const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key] ?? 0;
    const to = { Home: 0, End: all.length - 1 }[event.key] ?? (at + by + all.length) % all.length;
    all[to].focus();
  };
  pushes.addEventListener("focusin", ({ target }) => {
    for (const one of stops()) one.setAttribute("tabindex", one === target ? "0" : "-1");
  });
  const explain = (about) => ({
    onpointerenter: () => (line.textContent = about),
    onpointerleave: () => hint(),
    onfocus: () => (line.textContent = about),
    onblur: () => hint(),
  });
  const hint = () => (line.textContent = words("stack_hint"));

  // -- the stack ----------------------------------------------------------------------------------

  const frameNode = ({ label, about, kind, sign }) =>
    el(
      "li",
      { class: `km-ctx-frame km-ctx-${kind}`, title: about },
      el("code", {}, label),
      sign ? el("span", { class: "km-ctx-sign" }, sign) : "",
    );

  const pushButton = ([key, label, about]) =>
    el(
      "button",
      { class: "km-button", type: "button", tabindex: "-1", ...explain(about), onclick: () => tell("push", { frame: key }) },
      label,
    );
  let groups = "";
  const fillPushes = (state) => {
    const wanted = JSON.stringify(state.groups);
    if (wanted === groups) return;
    groups = wanted;
    const rows = state.groups.map(({ title, kind, buttons }) =>
      el(
        "div",
        { class: `km-ctx-group km-ctx-${kind}`, role: "group", "aria-label": title },
        el("span", { class: "km-quiet" }, title),
        el("div", {}, ...buttons.map(pushButton)),
      ),
    );
    pushes.replaceChildren(...rows);
    pushes.append(pop);
    stops()[0].setAttribute("tabindex", "0");
  };

  // -- what the kernels do ------------------------------------------------------------------------

  const flagNode = ([name, kept]) =>
    kept ? el("code", {}, name) : el("del", { title: words("left_less", { flags: name }) }, el("code", {}, name));
  const kernelNode = ({ name, result, lines }) =>
    el(
      "section",
      { class: "km-ctx-kernel" },
      el("p", { class: "km-ctx-head" }, name),
      el("p", {}, el("code", {}, result)),
      el(
        "pre",
        { class: "km-text", tabindex: "0", role: "region", "aria-label": name },
        lines.length ? lines.join("\n") : words("silent"),
      ),
    );
  const fixNode = ({ works, name, call, said }) =>
    el(
      "li",
      { class: works ? "km-ctx-works" : "km-ctx-fails" },
      el("span", { class: "km-ctx-mark", role: "img", "aria-label": words(works ? "fix_works" : "fix_fails") }, works ? "\u2713" : "\u2717"),
      el("div", {}, el("b", {}, name), el("div", { class: "km-quiet" }, el("code", {}, call), ` \u00b7 ${said}`)),
    );
  const fillShown = (state) => {
    road.hidden = shown.hidden = !state.shown;
    if (!state.shown) {
      shown.replaceChildren();
      return road.lastChild.replaceChildren();
    }
    const { legal, verdict, asked, left, flags, taken, sees, kernels, fixes } = state.shown;
    road.lastChild.replaceChildren(...state.shown.road.map((reason) => el("li", {}, reason)));
    shown.replaceChildren(
      el(
        "p",
        { class: `km-verdict km-${legal ? "right" : "wrong"}`, role: "status" },
        el("span", { "aria-hidden": "true" }, legal ? "\u2713 " : "\u2717 "),
        verdict,
      ),
      el(
        "dl",
        { class: "km-ctx-mask" },
        el("dt", {}, words("asked")),
        el("dd", {}, el("code", {}, asked), " ", ...flags.map(flagNode).flatMap((node) => [node, " "])),
        el("dt", {}, words("left")),
        el("dd", {}, el("code", {}, left), el("span", { class: "km-quiet" }, ` ${taken}`)),
      ),
      el("p", { class: "km-quiet" }, sees),
      el("div", { class: "km-ctx-kernels" }, ...kernels.map(kernelNode)),
      ...(fixes.length ? [el("p", { class: "km-ctx-head" }, words("fixes")), el("ul", { class: "km-ctx-fixes" }, ...fixes.map(fixNode))] : []),
    );
  };

  // -- the questions ------------------------------------------------------------------------------

  let answers = {};
  const VERDICTS = { true: ["\u2713", "right"], false: ["\u2717", "wrong"], null: ["?", "open"] };
  const verdictNode = ({ right, sentence, idea, why }) => {
    const [sign, name] = VERDICTS[right];
    return el(
      "div",
      { class: `km-verdict km-${name}` },
      el("p", { class: "km-outcome" }, el("span", { "aria-hidden": "true" }, sign), ` ${sentence}`),
      ...(idea ? [el("p", {}, el("b", {}, idea), ` ${why}`)] : []),
    );
  };
  const choice = (key) => ([value, label]) =>
    el(
      "label",
      { class: "km-check" },
      el("input", { type: "radio", name: `ctx-${key}-${own}`, value, onchange: () => (answers[key] = value) }),
      label,
    );
  const questionNode = ({ key, ask: asked, options, verdict }, open) =>
    el(
      "fieldset",
      {},
      el("legend", {}, asked),
      ...(open ? options.map(choice(key)) : []),
      ...(verdict ? [verdictNode(verdict)] : []),
    );
  const score = el("span", { class: "km-quiet" });
  const freePlay = el("input", { type: "checkbox", onchange: () => tell("free_play", { on: freePlay.checked }) });
  const freePlayLabel = el("span", {});

  let asked = "";
  const fillQuiz = ({ quiz, asking }) => {
    ask.hidden = !quiz;
    if (!quiz) return;
    score.textContent = quiz.score;
    freePlay.checked = quiz.free_play;
    freePlayLabel.textContent = words(quiz.unlocked ? "free_play" : "free_play_locked");
    const wanted = JSON.stringify([asking, quiz.questions]);
    if (wanted === asked) return;
    asked = wanted;
    const inside = ask.contains(document.activeElement);
    answers = {};
    const next = button("next", () => tell("next"));
    const commit = button("commit", () => tell("commit", { answers }));
    const open = asking ? [commit, button("unknown", () => tell("unknown"))] : [];
    const questions = asking || quiz.answered ? quiz.questions : [];
    ask.replaceChildren(
      ...questions.map((question) => questionNode(question, asking)),
      el("div", { class: "km-bar" }, ...open, next, score, el("label", { class: "km-check" }, freePlay, freePlayLabel)),
      ...(asking ? [el("p", { class: "km-quiet" }, words("hidden"))] : []),
    );
    if (inside) (asking ? ask.querySelector("input") : next).focus({ preventScroll: true });
  };

  // -- showing ------------------------------------------------------------------------------------

  const choose = (select, pairs, value) => {
    const wanted = JSON.stringify(pairs);
    if (select.dataset.options !== wanted) {
      select.dataset.options = wanted;
      select.replaceChildren(...pairs.map(([key, label]) => el("option", { value: key }, label)));
    }
    select.value = String(value);
  };
  const update = () => {
    const state = model.get("state");
    stack.replaceChildren(...state.stack.map(frameNode));
    fillPushes(state);
    pop.setAttribute("aria-disabled", String(!state.can_pop));
    pop.setAttribute("aria-label", words("pop_name", { frame: state.stack[0].label }));
    choose(gfp, state.gfps.map((name) => [name, name]), state.gfp);
    choose(order, state.orders.map((label, value) => [value, label]), state.order);
    message.textContent = state.message;
    message.hidden = !state.message;
    fillQuiz(state);
    fillShown(state);
  };

  hint();
  model.on("change:state", update);
  update();
  return () => model.off("change:state", update);
}

export default { render };
