/* The trap of chapter 1: both objectives over the slope of the link, exactly.
 *
 * `best` maximises an objective as hvae_course.oracles.optimise_link does: over every
 * linear-Gaussian q and over s_1. Along (1, ..., 1) the model is a chain of slope sqrt(D) a;
 * across it, z_2 has no part. Every step sets one parameter to its best value, given the others.
 */
(() => {
  "use strict";
  const { make, shape, latent, nats, chart, slider, explorers } = globalThis.hvaeExplorerParts;
  const SLOPE = 0.9, S0 = 0.25, S1 = 0.19; // the data come from this model
  const OBJECTIVES = { elbo: "joint sample (ELBO)", closed_form: "closed-form KL" };
  const SIZES = {
    1: "one coordinate: z\u2082 is not needed", 8: "eight coordinates: z\u2082 is needed",
  };
  const LAST = 99, STEPS = 20_000;
  const LOG_2PI = Math.log(2 * Math.PI);

  /* Mean over the data, in nats, at the best q and s_1: value, information of z_2, and s_1. */
  function best(objective, size, slope) {
    const along = size * SLOPE ** 2 + S1 + S0, across = S1 + S0;
    const alpha = Math.sqrt(size) * slope, joint = objective === "elbo";
    let b1 = 0.8, r1 = 0.2, b2 = 0.5, r2 = 0.5, b = 0.5, r = 0.2;
    let s1 = Math.max(1 - slope ** 2, 0.01), before = Infinity;
    for (let i = 0; i < STEPS && Math.abs(s1 - before) > 1e-11; i++) {
      const signal = b1 ** 2 * along;
      r2 = s1 / (s1 + alpha ** 2);
      b2 = (alpha / (alpha ** 2 + s1)) * (joint ? 1 : signal / (signal + r1));
      const left = (1 - alpha * b2) ** 2; // of z_1 given z_2, per unit of z_1 squared
      const noise = joint ? left : 1 + alpha ** 2 * b2 ** 2;
      b1 = 1 / S0 / (1 / S0 + left / s1 + b2 ** 2);
      r1 = 1 / (1 / S0 + noise / s1 + b2 ** 2);
      r = 1 / (1 / S0 + 1 / s1);
      b = r / S0;
      before = s1;
      s1 = (left * b1 ** 2 * along + noise * r1 + alpha ** 2 * r2
        + (size - 1) * (b ** 2 * across + r)) / size;
    }
    const left = (1 - alpha * b2) ** 2, noise = joint ? left : 1 + alpha ** 2 * b2 ** 2;
    const chain = (data, mean, variance, spread) => -0.5 * (
      LOG_2PI + Math.log(S0) + ((1 - mean) ** 2 * data + variance) / S0
      - 1 - Math.log(variance) + Math.log(s1) + spread / s1);
    const information = 0.5 * (
      r2 + b2 ** 2 * (b1 ** 2 * along + r1) - 1 - Math.log(r2));
    const value = chain(along, b1, r1, left * b1 ** 2 * along + noise * r1 + alpha ** 2 * r2)
      + (size - 1) * chain(across, b, r, b ** 2 * across + r) - information;
    return { value, information, variance: s1 };
  }

  /* The slope with the largest value, between 0 and 0.99; NaN where all are as good. */
  function chosen(objective, size) {
    const value = (slope) => best(objective, size, slope).value;
    if (Math.abs(value(0.2) - value(0.8)) < 1e-6) return NaN;
    const ratio = (Math.sqrt(5) - 1) / 2;
    let low = 0, high = LAST / 100;
    while (high - low > 1e-5) {
      const width = ratio * (high - low);
      if (value(high - width) >= value(low + width)) high = low + width;
      else low = high - width;
    }
    return (low + high) / 2;
  }

  let count = 0; // of the trap explorers on a page

  function start() {
    const group = `trap-size-${++count}`;
    let size = "1", at = 70;
    const known = {};

    function curves() {
      known[size] ??= Object.fromEntries(Object.keys(OBJECTIVES).map((name) => {
        const points = Array.from(
          { length: LAST + 1 }, (_, i) => best(name, Number(size), i / 100));
        return [name, { points, top: chosen(name, Number(size)) }];
      }));
      return known[size];
    }

    function ranges() {
      const values = Object.values(curves()).flatMap((c) => c.points.map((p) => p.value));
      const low = Math.min(...values), high = Math.max(...values), room = 0.08 * (high - low);
      return { x: [0, 1], y: [low - room, high + room] };
    }

    const { svg, redraw, valueAt } = chart(
      { role: "img", class: "drag" },
      { height: 260, xLabel: "slope a from z\u2082 to z\u2081", yLabel: "best value [nats]", ranges },
      ({ front, x, y, path }) => {
        const found = Object.entries(curves());
        front.replaceChildren(
          shape("line", { class: "here", x1: x(at / 100), x2: x(at / 100), y1: 10, y2: 220 }),
          ...found.map(([name, { points }]) =>
            shape("path", { class: name, d: path(points.map((p, i) => [i / 100, p.value])) })),
          ...found.filter(([, { top }]) => !Number.isNaN(top)).map(([name, { top }]) =>
            shape("path", {
              class: `${name} top`, "data-slope": top,
              d: `M${x(top)} ${y(best(name, Number(size), top).value) - 7}l6 -10h-12z`,
            })),
          ...found.map(([name, { points }]) => shape("circle", {
            class: `${name} dot`, r: 5.5, cx: x(at / 100), cy: y(points[at].value),
          })),
        );
      },
    );

    const rows = Object.entries(OBJECTIVES).map(([name, title]) => {
      const cells = ["here", "information", "top"].map((kind) => make("td", { class: kind }));
      const key = make("i", { class: name });
      return [name, cells, make("tr", {}, make("th", { scope: "row" }, key, title), ...cells)];
    });
    const here = make("th", { scope: "col" });
    const table = make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "objective"), here,
        make("th", { scope: "col" }, "information of ", latent(2), " [nats]"),
        make("th", { scope: "col" }, "an optimiser chooses\u00a0\u25be"))),
      make("tbody", {}, ...rows.map(([, , row]) => row)));

    const slope = slider(["slope ", make("i", {}, "a")], { min: 0, max: LAST, step: 1, value: at }, (value) => {
      at = value;
      show();
      return (at / 100).toFixed(2);
    });
    const choices = Object.entries(SIZES).map(([value, title]) => {
      const input = make("input", { type: "radio", name: group, value });
      input.checked = value === size;
      input.addEventListener("change", () => {
        size = value;
        show();
      });
      return make("label", {}, input, title);
    });

    function show() {
      redraw();
      here.textContent = `value at a = ${(at / 100).toFixed(2)}`;
      for (const [name, [value, information, top]] of rows) {
        const { points, top: slopeThere } = curves()[name];
        value.textContent = nats(points[at].value, 3);
        information.textContent = nats(points[at].information);
        top.textContent = Number.isNaN(slopeThere)
          ? "any a" : `a = ${slopeThere.toFixed(2)}`;
      }
      const values = rows.map(([name, [cell]]) => `${OBJECTIVES[name]} ${cell.textContent}`);
      svg.setAttribute("aria-label", `${SIZES[size]}. ${here.textContent}: ${values.join(", ")} nats`);
    }

    let before = at;
    const follow = (event) =>
      slope.set(Math.min(Math.max(Math.round(100 * valueAt(event)), 0), LAST));
    svg.addEventListener("pointerdown", (event) => {
      before = at;
      svg.setPointerCapture(event.pointerId);
      follow(event);
    });
    svg.addEventListener("pointermove", (event) => event.buttons && follow(event));
    svg.addEventListener("pointercancel", () => slope.set(before)); // the finger scrolls the page

    const element = make("div", { class: "explorer" },
      make("fieldset", {}, make("legend", {}, "Data from"), ...choices),
      svg, slope.element, table);
    return { element, shown: () => slope.set(at) };
  }

  globalThis.hvaeTrapExplorer = { best, chosen };
  explorers("trap-explorer", start);
})();
