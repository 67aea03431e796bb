/* What the explorers share: elements, bytes, axes, a slider, and their place in the page. */
globalThis.hvaeExplorerParts = (() => {
  "use strict";
  const MARGIN = { left: 62, right: 14, top: 10, bottom: 40 };

  function fill(element, attributes, children = []) {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  function make(name, attributes = {}, ...children) {
    return fill(document.createElement(name), attributes, children);
  }

  function shape(name, attributes = {}, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    return fill(element, attributes, children);
  }

  /* "z_1" with a lowered 1, in HTML. */
  function latent(level) {
    return make("span", { class: "latent" }, "z", make("sub", {}, level));
  }

  /* Adding 0 turns what rounds to -0 into 0. */
  const nats = (value, digits = 2) =>
    (Number(value.toFixed(digits)) + 0).toFixed(digits).replace("-", "\u2212");

  function bytes(base64) {
    const text = atob(base64), found = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
    return found;
  }

  /* Round numbers from low to high, at most `count` of them. */
  function ticks(low, high, count) {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
      found.push(Number((i * step).toPrecision(12)));
    }
    return found;
  }

  /* A chart as wide as its box. `ranges()` gives { x: [low, high], y: [low, high] }; `draw(axes)`
   * draws into axes.front and is called by redraw(), and when the width has changed. */
  function chart(attributes, { height, xLabel, yLabel, ranges }, draw) {
    const back = shape("g", { class: "axes", "aria-hidden": "true" });
    const front = shape("g", {});
    const svg = shape("svg", { height, ...attributes }, back, front);
    const axes = { svg, front };

    function redraw() {
      const width = svg.clientWidth || 600;
      const { x, y } = ranges();
      const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
      const across = (right - MARGIN.left) / (x[1] - x[0]);
      const up = (bottom - MARGIN.top) / (y[1] - y[0]);
      axes.x = (value) => MARGIN.left + (value - x[0]) * across;
      axes.y = (value) => bottom - (value - y[0]) * up;
      const heights = ticks(...y, 4);
      const decimals = Math.max(...heights.map((v) => (String(v).split(".")[1] ?? "").length));
      axes.at = (pixels) => x[0] + (pixels - MARGIN.left) / across;
      axes.path = (points) => points.map(([a, b], i) =>
        `${i ? "L" : "M"}${axes.x(a).toFixed(2)} ${axes.y(b).toFixed(2)}`).join("");
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      back.replaceChildren(
        shape("path", { d: `M${MARGIN.left} ${MARGIN.top}V${bottom}H${right}` }),
        ...ticks(...x, width < 420 ? 5 : 8).map((value) =>
          shape("text", { x: axes.x(value), y: bottom + 16, "text-anchor": "middle" },
            String(value).replace("-", "\u2212"))),
        ...heights.map((value) =>
          shape("text", { x: MARGIN.left - 6, y: axes.y(value) + 4, "text-anchor": "end" },
            value.toFixed(decimals).replace("-", "\u2212"))),
        shape("text", { x: (MARGIN.left + right) / 2, y: height - 5, "text-anchor": "middle" },
          xLabel),
        shape("text", {
          transform: `translate(12 ${(MARGIN.top + bottom) / 2}) rotate(-90)`,
          "text-anchor": "middle",
        }, yLabel),
      );
      draw(axes);
    }

    let width = 0;
    new ResizeObserver(() => {
      if (svg.clientWidth !== width) redraw();
      width = svg.clientWidth;
    }).observe(svg);
    const valueAt = (event) => axes.at(event.clientX - svg.getBoundingClientRect().left);
    return { svg, redraw, valueAt };
  }

  /* A labelled slider with its value beside it; `move(value)` gives the value's text. A screen
   * reader takes it from the slider alone. */
  function slider(label, range, move) {
    const input = make("input", { type: "range", ...range });
    const output = make("output", { "aria-hidden": "true" });
    const show = () => {
      output.value = move(Number(input.value));
      input.setAttribute("aria-valuetext", output.value);
    };
    input.addEventListener("input", show);
    const set = (value) => {
      input.value = value;
      show();
    };
    const name = make("span", {}, ...label);
    return { element: make("label", { class: "slide" }, name, input, output), input, set };
  }

  /* For every figure of an explorer, `start(data)` gives an element, which takes the place of the
   * image, and what is called once it is there. Where that fails, the image stays and says so. */
  function explorers(name, start) {
    document.querySelectorAll(`figure.${name}`).forEach((figure) => {
      const image = figure.querySelector("img");
      const still = image.closest("a.image-reference") ?? image;
      const text = figure.querySelector('script[type="application/json"]')?.textContent;
      try {
        const { element, shown } = start(text && JSON.parse(text));
        element.setAttribute("role", "group");
        element.setAttribute("aria-label", name.replace("-", " "));
        element.setAttribute("aria-description", image.alt);
        still.replaceWith(element);
        shown();
      } catch (error) {
        figure.prepend(still);
        figure.querySelector('[role="group"]')?.remove();
        still.after(make("p", { class: "not-started" },
          `This picture stands for an explorer that did not start (${error.message}). `
          + "Reload the page, or use another browser."));
      }
    });
  }

  return { fill, make, shape, latent, nats, bytes, chart, slider, explorers };
})();
