// The lab's controls, its question and its verdict. What may be done is Python's to say: a press
// sends one message, and the page shows the state that comes back.
import { el, say } from "./common.js";

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key) => say(texts, `buddy_lab.${key}`);
  const tell = (what, values = {}) => model.send({ do: what, ...values });

  const button = (key, onclick) => el("button", { class: "km-button", type: "button", onclick }, words(key));
  const field = (key, control) => el("label", { class: "km-labelled" }, words(key), control);

  const order = el("select", { class: "km-field" });
  const gfp = el("select", { class: "km-field" });
  const owner = el("select", { class: "km-field" });
  const request = () => ({ gfp: gfp.value, order: order.value, owner: owner.value });
  const allocate = button("allocate", () => tell("allocate", request()));
  const free = button("free", () => tell("free"));

  const question = el("p", { class: "km-question" });
  const answer = el("input", {
    class: "km-field km-answer",
    type: "text",
    spellcheck: "false",
    autocomplete: "off",
    onkeydown: (event) => event.key === "Enter" && commit(),
  });
  const commit = () => tell("commit", { answer: answer.value });
  const fails = button("fails_button", () => tell("fails"));
  const ask = el(
    "div",
    { class: "km-ask", role: "group", "aria-label": words("title") },
    question,
    el(
      "div",
      { class: "km-bar" },
      answer,
      button("commit", commit),
      fails,
      button("unknown_button", () => tell("unknown")),
      button("cancel", () => tell("cancel")),
    ),
  );
  const idle = el("p", { class: "km-quiet km-idle" }, words("idle"));
  const verdict = el("div", { role: "status" });
  const message = el("p", { class: "km-message", role: "status" });

  const undo = button("undo", () => tell("undo"));
  const seed = el("input", { class: "km-field km-seed", type: "number", min: 0, step: 1 });
  const freePlay = el("input", {
    type: "checkbox",
    onchange: () => tell("free_play", { on: freePlay.checked }),
  });
  const freePlayLabel = el("span", {});
  const score = el("p", { class: "km-quiet km-score" });

  root.append(
    el(
      "div",
      { class: "kmemkit km-panel", role: "group", "aria-label": words("title") },
      el("div", { class: "km-head" }, el("span", { class: "km-title" }, words("title"))),
      el("div", { class: "km-fields" }, field("gfp", gfp), field("order", order), field("owner", owner)),
      el("div", { class: "km-bar" }, allocate, free),
      ask,
      idle,
      message,
      verdict,
      score,
      el(
        "div",
        { class: "km-bar" },
        undo,
        button("reset", () => tell("reset")),
        field("seed", seed),
        button("reseed", () => tell("reseed", { seed: seed.value })),
      ),
      el("label", { class: "km-check" }, freePlay, freePlayLabel),
    ),
  );

  /** Keep a select's choice while its options are renewed. */
  const options = (select, pairs) => {
    const same = [...select.options].map((o) => o.value).join("\n") === pairs.map(([value]) => value).join("\n");
    if (!same) select.replaceChildren(...pairs.map(([value, label]) => el("option", { value }, label)));
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

  let asked = "";
  let picked = "";
  let seeded = null;
  const update = () => {
    const state = model.get("state");
    options(order, state.orders.map((label, value) => [String(value), label]));
    options(gfp, state.choices);
    options(owner, state.owners.map((name) => [name, name]));
    free.textContent = state.free;
    for (const [node, on] of [[allocate, !state.past], [free, state.can_free && !state.past], [undo, state.can_undo]]) {
      // A disabled button would drop the keyboard's focus, and could not say why it does nothing.
      node.setAttribute("aria-disabled", String(!on));
    }
    freePlay.checked = state.free_play;
    freePlayLabel.textContent = words(state.unlocked ? "free_play" : "free_play_locked");
    if (state.seed !== seeded) seed.value = seeded = state.seed;
    score.textContent = state.score;
    message.textContent = state.message;
    message.hidden = !state.message;
    idle.hidden = Boolean(state.question || state.verdict || state.message);
    showVerdict(state.verdict);

    question.textContent = state.question;
    const label = words(state.frees ? "answer_order" : "answer_pfn");
    answer.setAttribute("aria-label", label);
    answer.setAttribute("placeholder", state.frees ? "0" : "0x");
    answer.title = label;
    fails.hidden = state.frees;
    if (state.question && !state.frees && state.picked !== picked) answer.value = state.picked;
    picked = state.picked;
    if (state.question !== asked) turn(state);
  };

  /** Open or close the question, and keep the keyboard where the learner goes on. */
  const turn = (state) => {
    const inside = ask.contains(document.activeElement);
    asked = state.question;
    ask.hidden = !asked;
    if (asked) {
      answer.value = "";
      answer.focus({ preventScroll: true });
    } else if (inside) {
      allocate.focus({ preventScroll: true });
    }
  };

  model.on("change:state", update);
  ask.hidden = true;
  update();
  return () => model.off("change:state", update);
}

export default { render };
