/* Recorded trainings of chapter 2, several at once, epoch by epoch.
 *
 * The data, written by benchmarks/collapse_recording.py:
 *
 *   rows, columns   of the samples of an epoch; those of a row share z_2
 *   side            width and height of an image
 *   runs            one object for every training:
 *     title         text
 *     information   per epoch, from 0, the nats of z_1 and z_2
 *     images        grey values of all epochs, bytes in base64
 *     weights       per epoch the KL weights of z_1 and z_2, if they change
 */
(() => {
  "use strict";
  const { make, latent, nats, bytes, slider, explorers } = globalThis.hvaeExplorerParts;
  const LASTS = 350; // milliseconds per epoch

  /* The images of an epoch as the canvas shows them, RGBA, a pixel apart: ink is 255. */
  function samples({ rows, columns, side }, images, epoch) {
    const width = columns * (side + 1) - 1, height = rows * (side + 1) - 1;
    const pixels = new Uint8ClampedArray(4 * width * height);
    for (let i = 0; i < width * height; i++) {
      const x = i % width, y = Math.floor(i / width);
      const column = Math.floor(x / (side + 1)), row = Math.floor(y / (side + 1));
      const left = x % (side + 1), down = y % (side + 1);
      if (left === side || down === side) continue; // between two images nothing is drawn
      const image = (epoch * rows + row) * columns + column;
      const grey = 255 - images[(image * side + down) * side + left];
      pixels.set([grey, grey, grey, 255], 4 * i);
    }
    return { width, height, pixels };
  }

  /* One training: its element, and what shows an epoch in it. */
  function panel(data, run, [low, high]) {
    const images = bytes(run.images);
    const { width, height } = samples(data, images, 0);
    const canvas = make("canvas", {
      width, height, role: "img",
      "aria-label": `Samples: ${data.rows} rows, each with one draw of z\u2082`,
    });
    const picture = canvas.getContext("2d");
    const place = (value) => (100 * (value - low)) / (high - low);
    const bars = [1, 2].map((level) => {
      const bar = make("b", { class: `level-${level}` }), value = make("span", {});
      const track = make("div", { class: "track" }, make("i", { style: `left: ${place(0)}%` }), bar);
      return { bar, value, element: make("div", { class: "bar" }, latent(level), track, value) };
    });
    const weights = make("div", { class: "weights" });

    function show(epoch) {
      picture.putImageData(new ImageData(samples(data, images, epoch).pixels, width), 0, 0);
      bars.forEach(({ bar, value }, l) => {
        const found = run.information[epoch][l];
        bar.style.left = `${place(Math.min(found, 0))}%`;
        bar.style.width = `${place(Math.abs(found)) - place(0)}%`;
        value.textContent = nats(found, 1);
      });
      weights.textContent = run.weights
        ? `KL weights ${run.weights[epoch].map((w) => w.toFixed(2)).join(", ")}` : "\u00a0";
    }
    const element = make("div", { class: "run", role: "group", "aria-label": run.title },
      make("div", { class: "title" }, run.title), canvas,
      ...bars.map((bar) => bar.element), weights);
    return { element, show };
  }

  function start(data) {
    const every = data.runs.flatMap((run) => run.information.flat());
    const range = [Math.min(...every, 0), Math.max(...every)];
    const last = data.runs[0].information.length - 1;
    const panels = data.runs.map((run) => panel(data, run, range));
    const button = make("button", { type: "button" }, "Play");
    const epochs = slider(["epoch"], { min: 0, max: last, step: 1, value: last }, (epoch) => {
      panels.forEach((one) => one.show(epoch));
      return `${epoch} / ${last}`;
    });

    let timer = 0;
    function play(on) {
      clearInterval(timer);
      timer = 0;
      button.textContent = on ? "Pause" : "Play";
      if (!on) return;
      if (Number(epochs.input.value) === last) epochs.set(0);
      timer = setInterval(() => {
        epochs.set(Number(epochs.input.value) + 1);
        if (Number(epochs.input.value) === last) play(false);
      }, LASTS);
    }
    button.addEventListener("click", () => play(!timer));
    epochs.input.addEventListener("input", () => play(false));

    const element = make("div", { class: "explorer" },
      make("div", { class: "strip" }, button, epochs.element),
      make("div", { class: "runs" }, ...panels.map((one) => one.element)));
    return { element, shown: () => epochs.set(last) };
  }

  explorers("collapse-explorer", start);
})();
