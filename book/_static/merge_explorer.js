/* The merge of chapter 4: two Gaussians to drag, and their precision-weighted product. */
(() => {
  "use strict";
  const { make, shape, nats, chart, explorers } = globalThis.hvaeExplorerParts;
  const MEANS = [-4, 4], STDS = [0.5, 2.5];
  const FIRST = { prior: { mean: 0, std: 1 }, message: { mean: 2, std: 0.5 } }; // of the notebook
  const REACH = 20; // pixels around a handle that belong to it
  const KEYS = {
    ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10,
  };

  /* Share of the message in the total precision; mean, std, and KL from the prior, in nats. */
  function merge(prior, message) {
    const share = prior.std ** 2 / (prior.std ** 2 + message.std ** 2);
    const mean = prior.mean + share * (message.mean - prior.mean);
    const t = Math.log1p(-share); // log of the merge's variance over the prior's
    const kl = 0.5 * (Math.expm1(t) - t + ((mean - prior.mean) / prior.std) ** 2);
    return { share, mean, std: prior.std * Math.exp(t / 2), kl };
  }

  const density = ({ mean, std }, z) =>
    Math.exp(-0.5 * ((z - mean) / std) ** 2) / (std * Math.sqrt(2 * Math.PI));

  function start() {
    const given = structuredClone(FIRST);
    const within = (value, [low, high]) =>
      Math.min(Math.max(Math.round(10 * value) / 10, low), high);

    const handles = Object.keys(given).flatMap((of) => [["mean", MEANS], ["std", STDS]].map(
      ([what, [low, high]]) => {
        const element = shape("g", {
          class: `handle ${of}`, role: "slider", tabindex: 0,
          "aria-valuemin": low, "aria-valuemax": high,
          "aria-label": `${what === "mean" ? "Mean" : "Standard deviation"} of the ${of}`,
        },
        shape("circle", { class: "reach", r: REACH }),
        what === "mean"
          ? shape("circle", { class: "knob", r: 7 })
          : shape("path", { class: "knob", d: "M-9 0l7 -7v14zM9 0l-7 -7v14z" }));
        const set = (value) => {
          given[of][what] = within(value, [low, high]);
          show();
        };
        element.addEventListener("keydown", (event) => {
          const ends = { Home: low, End: high };
          if (event.ctrlKey || event.altKey || event.metaKey) return;
          if (event.key in KEYS) set(given[of][what] + KEYS[event.key] / 10);
          else if (event.key in ends) set(ends[event.key]);
          else return;
          event.preventDefault();
        });
        return { element, of, what, set };
      }));

    const plot = chart(
      { role: "group", "aria-label": "Densities of z", class: "merge" },
      {
        height: 300, xLabel: "latent z", yLabel: "density",
        ranges: () => ({ x: [-5, 5], y: [0, 1.2] }),
      },
      ({ front, x, y, path }) => {
        const all = { ...given, merged: merge(given.prior, given.message) };
        const grid = Array.from({ length: 401 }, (_, i) => -5 + i / 40);
        const curve = (name) => path(grid.map((z) => [z, density(all[name], z)]));
        front.replaceChildren(
          shape("path", { class: "area", d: `${curve("merged")}L${x(5)} ${y(0)}H${x(-5)}Z` }),
          ...Object.keys(all).map((name) => shape("path", { class: name, d: curve(name) })),
        );
        for (const { element, of, what } of handles) {
          const { mean, std } = given[of];
          const z = what === "mean" ? mean : mean + std * (mean + std > 5 ? -1 : 1);
          element.setAttribute("transform", `translate(${x(z)} ${y(density(given[of], z))})`);
          element.setAttribute("aria-valuenow", given[of][what]);
          element.setAttribute("aria-valuetext", given[of][what].toFixed(1));
        }
      },
    );
    plot.svg.append(...handles.map((handle) => handle.element));

    let held = null;
    plot.svg.addEventListener("pointerdown", (event) => {
      const far = ({ element }) => {
        const box = element.querySelector(".knob").getBoundingClientRect();
        return Math.hypot(
          event.clientX - box.x - box.width / 2, event.clientY - box.y - box.height / 2);
      };
      const nearest = handles.reduce((a, b) => (far(a) < far(b) ? a : b));
      if (far(nearest) > REACH) return;
      held = nearest;
      held.element.focus({ preventScroll: true });
      plot.svg.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    plot.svg.addEventListener("pointermove", (event) => {
      if (!held) return;
      const z = plot.valueAt(event);
      held.set(held.what === "mean" ? z : Math.abs(z - given[held.of].mean));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      plot.svg.addEventListener(end, () => (held = null));
    }

    const lines = Object.entries({
      prior: "prior, from above", message: "message of x", merged: "merge, the posterior",
    }).map(([name, title]) => {
      const value = make("span", { class: "value" });
      return [name, value, make("div", {}, make("i", { class: name }), `${title}: `, value)];
    });
    const parts = { message: make("b", { class: "message" }), prior: make("b", { class: "prior" }) };
    const share = make("span", { class: "value" });
    const kl = make("output", { class: "kl" });
    const again = make("button", { type: "button" }, "Reset");
    again.addEventListener("click", () => {
      for (const of of Object.keys(FIRST)) Object.assign(given[of], FIRST[of]);
      show();
    });

    function show() {
      const merged = merge(given.prior, given.message);
      const all = { ...given, merged };
      plot.redraw();
      for (const [name, value] of lines) {
        const { mean, std } = all[name];
        const digits = name === "merged" ? 3 : 1;
        value.textContent = `mean ${nats(mean, digits)}, std ${std.toFixed(digits)}`;
      }
      kl.value = `${merged.kl.toFixed(3)} nats`;
      parts.message.style.width = `${100 * merged.share}%`;
      parts.prior.style.width = `${100 * (1 - merged.share)}%`;
      share.textContent = merged.share.toFixed(3);
    }

    const element = make("div", { class: "explorer" },
      plot.svg,
      make("div", { class: "lines" }, ...lines.map(([, , line]) => line)),
      make("div", { class: "shares" },
        make("span", {}, "share of the message in the precision, \u03b3 = ", share),
        make("div", { class: "bar" }, parts.message, parts.prior)),
      make("div", { class: "strip" },
        make("span", {}, "KL of the merge from the prior: ", kl), again));
    return { element, shown: show };
  }

  globalThis.hvaeMergeExplorer = { merge };
  explorers("merge-explorer", start);
})();
