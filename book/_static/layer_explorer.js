/* Runs the generative networks of a trained hierarchy, and lets a reader move every level.
 *
 * Needs explorer_parts.js. Looks for `figure.layer-explorer` (directive `explorer`), reads its
 * data from the `<script type="application/json">` inside, and puts the explorer where its image
 * was; the image stays where scripts are off. The data, written by benchmarks/layer_explorer.py:
 *
 *   image_shape    rows and columns of an image
 *   latent_sizes   dimensions of z_1, ..., z_L
 *   networks       "x" and "z_1", ..., "z_L-1": the layers of the network that gives the logits of
 *                  the pixels, or mean and raw log std of the prior of a level. Each reads the
 *                  latents above it, z_L first.
 *     kind "linear" (in, out), "layer_norm" (size, eps) or "gelu"
 *     start   place of the layer's weights, a matrix by rows and then the shift
 *   weights        of all layers, base64 of 16-bit floats, little-endian
 *   log_std_bound  b in log std = b tanh(raw / b)
 *   directions     per level two orthonormal directions, in standard deviations of the prior
 *   digits         label, row in the test split, binary pixels (base64 of bytes), and per level
 *                  the posterior's means, stds and kl (nats)
 *   start          number of the digit that is shown first
 *   information    nats per level, on average over the validation images
 *   bound, training   what the note under the explorer says
 *
 * A level is placed by e = (z - mean) / std of its prior given the levels above. A level that
 * follows keeps its e while those levels change, and a held one keeps its z.
 */
(() => {
  "use strict";
  const { fill, make, shape, nats, bytes, explorers } = globalThis.hvaeExplorerParts;
  const CELLS = 9; // images along each side of a map
  const REACH = 3; // largest coordinate of a point
  const EDGE = (REACH * CELLS) / (CELLS - 1); // of the map, around its outer images
  const STEP = 0.1, LARGE_STEP = 0.5; // of an arrow key, and with Shift
  const SCALE = 20; // nats at the end of a bar
  const GLIDE = 350; // milliseconds from one image to the next
  const SLICE = 8; // milliseconds of a frame that the maps may take

  // The model: functions of numbers alone

  /* Exponent and fraction of a half, where a 32-bit float has its own, make a number that is
   * too small by the difference of the exponents' offsets, 127 - 15. */
  function halves(base64) {
    const given = bytes(base64), found = new Float32Array(given.length / 2);
    const bits = new Uint32Array(found.buffer);
    for (let i = 0; i < found.length; i++) {
      const half = given[2 * i] | (given[2 * i + 1] << 8);
      bits[i] = ((half & 0x8000) << 16) | ((half & 0x7fff) << 13);
      found[i] *= 2 ** 112;
    }
    return found;
  }

  /* Phi(x) of the standard normal distribution to seven digits (Numerical Recipes, erfc). */
  function normal(x) {
    const u = Math.abs(x) / Math.SQRT2, t = 1 / (1 + 0.5 * u);
    const tail = 0.5 * t * Math.exp(-u * u - 1.26551223 + t * (1.00002368 + t * (0.37409196
      + t * (0.09678418 + t * (-0.18628806 + t * (0.27886807 + t * (-1.13520398
      + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277)))))))));
    return x < 0 ? tail : 1 - tail;
  }

  const LAYERS = {
    linear(weights, layer, x) {
      const inputs = layer.in, outputs = layer.out, shift = layer.start + inputs * outputs;
      const y = new Float32Array(outputs), even = inputs - (inputs % 4);
      for (let o = 0, w = layer.start; o < outputs; o++) {
        let a = weights[shift + o], b = 0, c = 0, d = 0, i = 0;
        for (; i < even; i += 4, w += 4) { // four sums side by side, which is faster than one
          a += weights[w] * x[i];
          b += weights[w + 1] * x[i + 1];
          c += weights[w + 2] * x[i + 2];
          d += weights[w + 3] * x[i + 3];
        }
        for (; i < inputs; i++, w++) a += weights[w] * x[i];
        y[o] = a + b + c + d;
      }
      return y;
    },
    layer_norm(weights, layer, x) {
      const mean = x.reduce((sum, v) => sum + v, 0) / layer.size;
      const variance = x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / layer.size;
      const scale = 1 / Math.sqrt(variance + layer.eps);
      return x.map((v, i) => (v - mean) * scale * weights[layer.start + i]
        + weights[layer.start + layer.size + i]);
    },
    gelu: (weights, layer, x) => x.map((v) => v * normal(v)),
  };

  function read(data) {
    return { ...data, weights: halves(data.weights) };
  }

  function run(model, name, x) {
    return model.networks[name].reduce((y, layer) =>
      LAYERS[layer.kind](model.weights, layer, y), Float32Array.from(x));
  }

  /* p(z_l | z_>l), l from 0; `above` holds z_L, ..., z_l+1 one after the other. */
  function prior(model, l, above) {
    const size = model.latent_sizes[l], bound = model.log_std_bound;
    if (!above.length) return { mean: Array(size).fill(0), std: Array(size).fill(1) };
    const outputs = Array.from(run(model, `z_${l + 1}`, above));
    const std = outputs.slice(size).map((raw) => Math.exp(bound * Math.tanh(raw / bound)));
    return { mean: outputs.slice(0, size), std };
  }

  /* Probability of ink for every pixel; `latents` holds z_L, ..., z_1 one after the other. */
  function decode(model, latents) {
    return run(model, "x", latents).map((logit) => 1 / (1 + Math.exp(-logit)));
  }

  /* From the top to the pixels. Per level, bottom to top: `held`, a fixed z; else `set`, a fixed
   * e; else `noise`, multiplied by the temperature. */
  function walk(model, levels, temperature) {
    const found = [];
    let above = [];
    for (let l = levels.length - 1; l >= 0; l--) {
      const { held, set, noise } = levels[l];
      const { mean, std } = prior(model, l, above);
      const e = held ? held.map((z, i) => (z - mean[i]) / std[i])
        : set ?? noise.map((v) => temperature * v);
      const z = held ?? e.map((v, i) => mean[i] + std[i] * v);
      found[l] = { mean, std, e, z };
      above = [...above, ...z];
    }
    return { levels: found, image: decode(model, above) };
  }

  const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);

  /* Coordinates of e in the plane of a map, and e moved within that plane. */
  const seen = (plane, e) => plane.map((direction) => dot(direction, e));
  function moved(plane, e, point) {
    const [right, up] = seen(plane, e).map((v, i) => point[i] - v);
    return e.map((v, i) => v + right * plane[0][i] + up * plane[1][i]);
  }

  /* A level moved in its plane: still held if it was held. */
  function move(level, place, plane, point) {
    const e = moved(plane, place.e, point);
    const held = level.held && e.map((v, i) => place.mean[i] + place.std[i] * v);
    return { ...level, set: e, held };
  }

  /* Nats by which the density of z under its prior lies below the density at the mean. */
  const surprise = (e) => dot(e, e) / 2;

  /* Half axes and angle (degrees) of one standard deviation of q in a plane; `ratios` are the
   * posterior's standard deviations in those of the prior. */
  function ellipse(plane, ratios) {
    const covariance = (a, b) => a.reduce((sum, v, i) => sum + v * b[i] * ratios[i] ** 2, 0);
    const [a, b, c] = [[0, 0], [0, 1], [1, 1]].map(([i, j]) => covariance(plane[i], plane[j]));
    const middle = (a + c) / 2, half = Math.hypot((a - c) / 2, b);
    return {
      rx: Math.sqrt(middle + half), ry: Math.sqrt(Math.max(middle - half, 0)),
      angle: (90 / Math.PI) * Math.atan2(2 * b, a - c),
    };
  }

  /* Standard-normal numbers, the same for a seed in every browser. */
  function normals(seed) {
    let state = seed;
    const uniform = () => { // mulberry32
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    return (size) => Array.from({ length: size }, () =>
      Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()));
  }

  globalThis.hvaeLayerExplorer = { read, prior, decode, walk, move, surprise, ellipse, normals };

  // The page

  const action = (text, run, attributes = {}) => {
    const button = make("button", { type: "button", ...attributes }, text);
    button.addEventListener("click", run);
    return button;
  };
  const symbol = (l) => make("i", { class: "symbol" }, "z", make("sub", {}, `${l + 1}`));
  const written = (l) => `z${String.fromCharCode(0x2081 + l)}`; // "z" with a lowered number
  const count = (v) => v.toLocaleString("en");
  const clamp = (v) => Math.min(Math.max(v, -REACH), REACH);

  /* The colour of an element's text, [red, green, blue]. */
  const ink = (element) =>
    getComputedStyle(element).color.match(/[\d.]+/g).slice(0, 3).map(Number);

  function paint(image, [rows, columns], [red, green, blue]) {
    const pixels = new ImageData(columns, rows);
    image.forEach((v, i) => {
      pixels.data[4 * i] = red;
      pixels.data[4 * i + 1] = green;
      pixels.data[4 * i + 2] = blue;
      pixels.data[4 * i + 3] = 255 * v;
    });
    return pixels;
  }

  /* The map of a level with its point; returns the element and what shows a state in it. */
  function pad(model, l, place) {
    const plane = model.directions[l], size = model.latent_sizes[l];
    const [rows, columns] = model.image_shape;
    const canvas = make("canvas", { width: CELLS * columns, height: CELLS * rows });
    const context = canvas.getContext("2d");
    const mean = shape("ellipse", { class: "posterior" });
    const point = shape("circle", { class: "point", r: 0.16 });
    const circles = [1, 2].map((r) => shape("circle", { class: "prior", r }));
    const picture = shape(
      "svg", { viewBox: `${-EDGE} ${-EDGE} ${2 * EDGE} ${2 * EDGE}`, "aria-hidden": "true" },
      ...circles, mean, point,
    );
    const name = `z_${l + 1}`;
    const element = make("div", {
      class: "pad", tabindex: 0, role: "slider", "aria-label": `Point of ${name}`,
      "aria-roledescription": "two-dimensional slider",
      "aria-valuemin": -REACH, "aria-valuemax": REACH,
    }, canvas, picture);
    let at = [0, 0];

    const go = (right, up) => place([clamp(right), clamp(up)]);
    element.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const step = event.shiftKey ? LARGE_STEP : STEP;
      const keys = {
        ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step],
        Home: at.map((v) => -v),
      };
      if (!(event.key in keys)) return;
      event.preventDefault();
      go(at[0] + keys[event.key][0], at[1] + keys[event.key][1]);
    });
    const follow = (event) => {
      const box = element.getBoundingClientRect();
      go(EDGE * ((2 * (event.clientX - box.left)) / box.width - 1),
        EDGE * (1 - (2 * (event.clientY - box.top)) / box.height));
    };
    element.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      element.setPointerCapture(event.pointerId);
      follow(event);
    });
    element.addEventListener("pointermove", (event) => {
      if (element.hasPointerCapture(event.pointerId)) follow(event);
    });

    /* Show the point, and the posterior if the levels above are those it was inferred with. */
    function show(place, posterior, mode) {
      at = seen(plane, place.e);
      const [x, y] = at.map(clamp);
      fill(point, { cx: x, cy: -y });
      point.classList.toggle("beyond", x !== at[0] || y !== at[1]);
      element.dataset.mode = mode;
      fill(element, {
        "aria-valuenow": x.toFixed(1),
        "aria-valuetext": `${nats(at[0], 1)} to the right, ${nats(at[1], 1)} up`,
      });
      mean.style.visibility = posterior ? "visible" : "hidden";
      if (!posterior) return;
      const e = posterior.means.map((v, i) => (v - place.mean[i]) / place.std[i]);
      const [cx, cy] = seen(plane, e);
      const { rx, ry, angle } = ellipse(plane, posterior.stds.map((v, i) => v / place.std[i]));
      fill(mean, { rx, ry, transform: `translate(${cx} ${-cy}) rotate(${-angle})` });
    }

    /* Draw one image of the map. */
    let cursor = 0;
    function drawCell(levels, places, temperature, colour) {
      const cell = (31 * cursor) % CELLS ** 2; // here and there, all of them in the end
      cursor = (cursor + 1) % CELLS ** 2;
      const column = cell % CELLS, row = Math.floor(cell / CELLS);
      const tick = (k) => REACH * ((2 * k) / (CELLS - 1) - 1);
      const there = [...levels];
      there[l] = move(levels[l], places[l], plane, [tick(column), -tick(row)]);
      const { image } = walk(model, there, temperature);
      context.putImageData(paint(image, model.image_shape, colour), column * columns, row * rows);
    }
    const shown = size > 2 ? `2 of ${size} dimensions` : "both dimensions";
    return { element, canvas, name, shown, show, drawCell, stale: 0 };
  }

  /* One bar per level; returns the element and what shows values in it. */
  function chart(model, order) {
    const title = make("div", { class: "title" });
    const rows = order.map(() => ({
      bar: make("i", { class: "bar" }), tick: make("i", { class: "tick" }),
      value: make("span", { class: "value" }),
    }));
    const lines = order.map((l, i) => make(
      "div", { class: "level-nats" }, symbol(l),
      make("div", { class: "track" }, rows[i].bar, rows[i].tick), rows[i].value,
    ));
    const key = make("div", { class: "tick-key" });
    const element = make("div", { class: "nats" }, title, ...lines, key);
    const share = (v) => `${Math.min(100, (100 * v) / SCALE)}%`;

    function show(kind, values, ticks) {
      element.dataset.kind = kind;
      title.textContent = kind === "posterior"
        ? "Information in each level, KL(q \u2016 p), nats"
        : "How improbable each level is given those above, nats below the prior\u2019s mode";
      key.textContent = kind === "posterior" ? "mean of the validation images"
        : "mean of draws from the prior";
      order.forEach((l, i) => {
        rows[i].bar.style.width = share(values[l]);
        rows[i].tick.style.left = share(ticks[l]);
        rows[i].value.textContent = nats(values[l], 1);
      });
    }
    return { element, show };
  }

  function start(data) {
    const model = read(data);
    const sizes = model.latent_sizes, order = sizes.map((_, l) => l).reverse(); // top first
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

    let draw, levels, temperature, digit, edited;
    let places = null, glide = null, request = 0;

    // What can be done

    /* A digit's posterior means, as places that follow the levels above. */
    function begin(k) {
      digit = k;
      edited = sizes.map(() => false);
      const held = model.digits[k].means.map((z) => ({ held: z }));
      const found = walk(model, held, 1).levels;
      levels = levels.map((level, l) => ({ ...level, held: null, set: found[l].e }));
    }

    function resample(which) {
      for (const l of which.filter((l) => !levels[l].held)) {
        levels[l] = { noise: draw(sizes[l]), set: null, held: null };
        edited[l] = true;
      }
    }

    function reset() {
      draw = normals(1);
      levels = sizes.map((size) => ({ noise: draw(size), set: null, held: null }));
      temperature = 1;
      begin(model.start);
    }

    function hold(l) {
      const { held } = levels[l];
      levels[l] = held ? { ...levels[l], held: null, set: places.levels[l].e }
        : { ...levels[l], held: places.levels[l].z };
    }

    // What is seen

    const big = make("canvas", { width: 448, height: 448, role: "img", class: "image" });
    const [rows, columns] = model.image_shape;
    const small = make("canvas", { width: columns, height: rows });
    const status = make("div", { class: "status", role: "status" });
    const bars = chart(model, order);

    const pads = sizes.map((_, l) => pad(model, l, (point) => {
      finish();
      levels[l] = move(levels[l], places.levels[l], model.directions[l], point);
      edited[l] = true;
      update(l);
    }));
    const holds = sizes.map((_, l) => action("Hold", () => {
      finish();
      hold(l);
      update();
    }));
    const modes = sizes.map(() => make("span", { class: "mode" }));
    const columnsOfPads = order.map((l) => {
      const below = order.filter((k) => k < l);
      const buttons = [
        holds[l],
        action("Redraw", () => go(() => resample([l])), {
          "aria-label": `Redraw ${pads[l].name}`,
        }),
      ];
      if (below.length) {
        buttons.push(action("Redraw below", () => go(() => resample(below)), {
          "aria-label": `Redraw below ${pads[l].name}`,
        }));
      }
      return make(
        "div", { class: "level" },
        make("div", { class: "head" }, symbol(l), make("span", {}, pads[l].shown), modes[l]),
        pads[l].element, make("div", { class: "actions" }, ...buttons),
      );
    });

    const thumbs = model.digits.map(({ label, pixels }, k) => {
      const canvas = make("canvas", { width: columns, height: rows });
      const button = action(canvas, () => go(() => begin(k)), {
        "aria-label": `Start from test digit ${label}, number ${k + 1} of ${model.digits.length}`,
      });
      return { button, canvas, pixels: bytes(pixels) };
    });

    const slider = make("input", {
      type: "range", min: 0, max: 1.5, step: 0.05, "aria-label": "Temperature",
    });
    const degree = make("span", { class: "value" });
    slider.addEventListener("input", () => {
      finish();
      temperature = Number(slider.value);
      update();
    });
    const { bound, training } = model;
    const average = order.map((l) => `${nats(model.information[l])} in ${written(l)}`);
    const element = make(
      "div", { class: "layers" },
      make("div", { class: "title" }, "Start from a test digit"),
      make("div", { class: "digits" }, ...thumbs.map(({ button }) => button)),
      make("div", { class: "stage" },
        make("div", { class: "frame" }, big),
        make("div", { class: "side" }, status, bars.element)),
      make("div", { class: "controls" },
        action("Draw all from the prior", () => go(() => resample(order))),
        action("Reset", () => go(reset)),
        make("label", {}, make("span", {}, "Temperature"), slider, degree)),
      make("div", { class: "levels" }, ...columnsOfPads),
      make("div", { class: "key" },
        make("span", {}, make("i", { class: "prior" }),
          "prior given the levels above: 1 and 2 standard deviations"),
        make("span", {}, make("i", { class: "posterior" }),
          "posterior given the digit: 1 standard deviation"),
        make("span", {}, "A hollow point lies beyond its map.")),
      make("p", { class: "note" },
        `Trained on ${training.data}, ${count(training.num_examples)} images, for `
        + `${training.epochs} epochs (${count(training.steps)} steps). ELBO on `
        + `${count(bound.num_examples)} validation images: ${nats(bound.elbo)} \u00b1 `
        + `${nats(bound.standard_error)} nats per image. Information per image: `
        + `${average.join(", ")} nats. The ${count(training.parameters)} weights of the `
        + "generative networks run in your browser, as 16-bit numbers."),
    );

    function sources() {
      return levels.map(({ held, set }, l) => {
        if (held) return "held";
        if (!edited[l]) return "posterior";
        return set ? "moved" : "drawn";
      });
    }

    /* The state on the screen; on the way to a new one, the levels are between both. */
    function show(shown = levels) {
      places = walk(model, shown, temperature);
      small.getContext("2d").putImageData(paint(places.image, model.image_shape, ink(big)), 0, 0);
      const context = big.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.clearRect(0, 0, big.width, big.height);
      context.drawImage(small, 0, 0, big.width, big.height);

      const of = model.digits[digit], found = sources();
      const inferred = (l) => of.means[l].every((z, i) =>
        Math.abs(z - places.levels[l].z[i]) < 1e-3 * (1 + Math.abs(z)));
      let above = true; // whether the levels above are as they were inferred
      for (const l of order) {
        const posterior = above && { means: of.means[l], stds: of.stds[l] };
        above = above && inferred(l);
        pads[l].show(places.levels[l], posterior, above ? "posterior" : "prior");
        holds[l].setAttribute("aria-pressed", found[l] === "held");
        holds[l].setAttribute("aria-label", `Hold ${pads[l].name}`);
        const follows = { moved: "set by you", drawn: "drawn from its prior", held: "held" };
        modes[l].textContent = found[l] === "posterior" ? "as in the digit" : follows[found[l]];
      }
      if (above) bars.show("posterior", of.kl, model.information);
      else {
        const usual = sizes.map((size) => size / 2); // of a draw from the prior
        bars.show("prior", places.levels.map(({ e }) => surprise(e)), usual);
      }
      const changed = order.filter((l) => edited[l]).map(written);
      const words = changed.length === sizes.length ? "All levels drawn or set"
        : `Test digit ${of.label}${changed.length ? `, ${changed.join(" and ")} changed` : ""}`;
      if (status.textContent !== words) status.textContent = words;
      big.setAttribute("aria-label", `Decoded image. ${words}`);
      thumbs.forEach(({ button }, k) => button.setAttribute("aria-pressed", k === digit));
      slider.value = temperature;
      degree.textContent = temperature.toFixed(2);
    }

    /* Show the state, and draw the maps again but that in whose plane a point moved. */
    function update(own = null) {
      show();
      pads.forEach((one, l) => { if (l !== own) one.stale = CELLS ** 2; });
      schedule();
    }

    function schedule() {
      if (!request) request = requestAnimationFrame(tick);
    }

    function tick(now) {
      request = 0;
      if (glide) {
        glide.since ??= now;
        const share = Math.min(1, (now - glide.since) / GLIDE);
        const s = share * share * (3 - 2 * share);
        if (share === 1) return finish();
        show(levels.map((level, l) => (level.held ? level : {
          ...level, set: glide.from[l].map((v, i) => (1 - s) * v + s * glide.to[l][i]),
        })));
        return schedule();
      }
      const colours = pads.map(({ canvas }) => ink(canvas));
      while (pads.some(({ stale }) => stale) && performance.now() - now < SLICE) {
        pads.forEach((one, l) => {
          if (!one.stale) return;
          one.drawCell(levels, places.levels, temperature, colours[l]);
          one.stale -= 1;
        });
      }
      if (pads.some(({ stale }) => stale)) schedule();
    }

    function finish() {
      if (!glide) return;
      glide = null;
      update();
    }

    /* Change the state, and glide there. */
    function go(change) {
      finish();
      const from = places.levels.map(({ e }) => e);
      change();
      const to = walk(model, levels, temperature).levels.map(({ e }) => e);
      if (still) return update();
      glide = { from, to };
      schedule();
    }

    function theme() {
      thumbs.forEach(({ canvas, pixels }) =>
        canvas.getContext("2d").putImageData(paint(pixels, model.image_shape, ink(canvas)), 0, 0));
      update();
    }

    function shown() {
      reset();
      theme();
      const root = document.documentElement;
      new MutationObserver(theme).observe(root, { attributeFilter: ["data-theme"] });
    }
    return { element, shown };
  }

  explorers("layer-explorer", start);
})();
