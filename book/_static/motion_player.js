/* Plays motions as stick figures, several at once.
 *
 * Needs explorer_parts.js. Looks for `figure.motion-player` (directive `explorer`), reads its
 * data from the `<script type="application/json">` inside, and puts the animation where its image
 * was; the image stays where scripts are off. The data, written by benchmarks/motion_player.py:
 *
 *   parents  number of the parent of every joint, -1 for the root
 *   sides    "left", "middle" or "right" for every joint
 *   head     number of the joint that is drawn as a disc, -1 for none
 *   width, height   of the box that holds every figure, in the units of the frames
 *   fps      frames per second
 *   jump     degrees: a frame with a larger step is marked
 *   paths    one object for every figure, those of a model one after the other:
 *     model, path, start, end   texts
 *     steps    per frame, the largest turn of a joint since the frame before, degrees
 *     frames   per frame [x0, y0, x1, y1, ...], integers, x to the right, y up from the ground
 */
(() => {
  "use strict";
  const { make, shape, explorers } = globalThis.hvaeExplorerParts;
  const SPEEDS = [0.25, 0.5, 1, 2];
  const REST = 1000; // milliseconds at the last frame, before the first comes again
  const ORDER = ["left", "middle", "right"]; // the right side is nearer, so it is drawn last

  /* A figure with its texts; returns the element and what shows a frame in it. */
  function cell(data, path) {
    const { width, height } = data;
    const last = path.frames.length - 1;
    const side = 0.08 * height, above = 0.12 * height, below = 0.14 * height;
    const full = [width + 2 * side, above + height + below];
    const jumps = path.steps.flatMap((step, t) => (step > data.jump ? [t] : []));
    const box = shape("rect", {
      class: "jump", x: -side + 6, y: -above + 6, width: full[0] - 12,
      height: above + height + 0.05 * height - 6,
    });
    const limbs = ORDER.map((name) => shape("path", { class: name }));
    const head = shape("circle", { class: "head", r: data.head < 0 ? 0 : 0.055 * height });
    const rail = height + 0.105 * height;
    const at = (t) => (width * t) / (last || 1);
    const done = shape("line", { class: "done", x1: 0, y1: rail, y2: rail });
    const ticks = jumps.map((t) =>
      shape("line", { class: "tick", x1: at(t), x2: at(t), y1: rail - 14, y2: rail + 14 }));
    const picture = shape(
      "svg",
      {
        viewBox: `${-side} ${-above} ${full[0]} ${full[1]}`,
        preserveAspectRatio: "xMinYMid",
        role: "img",
        "aria-label": `${path.model}, ${path.path}, from ${path.start} to ${path.end}`,
      },
      shape("line", { class: "ground", x1: -side, x2: width + side, y1: height, y2: height }),
      shape("line", { class: "rail", x1: 0, x2: width, y1: rail, y2: rail }),
      done, ...ticks, limbs[0], limbs[1], head, limbs[2], box,
    );
    const count = jumps.length === 1 ? "1 jump" : `${jumps.length} jumps`;
    const text = make(
      "div", {},
      make("b", {}, path.path), make("span", {}, `${path.start} \u2192 ${path.end}`),
      make("span", { class: "largest" },
        `${count}, largest step\u00a0${Math.round(Math.max(...path.steps))}\u00b0`),
    );

    function show(t) {
      const points = path.frames[t];
      const place = (j) => `${points[2 * j]} ${height - points[2 * j + 1]}`;
      ORDER.forEach((name, i) => {
        let line = "";
        data.parents.forEach((parent, j) => {
          if (parent >= 0 && data.sides[j] === name) line += `M${place(parent)}L${place(j)}`;
        });
        limbs[i].setAttribute("d", line);
      });
      if (data.head >= 0) {
        head.setAttribute("cx", points[2 * data.head]);
        head.setAttribute("cy", height - points[2 * data.head + 1]);
      }
      done.setAttribute("x2", at(t));
      picture.classList.toggle("jumping", path.steps[t] > data.jump);
    }
    return { element: make("div", { class: "walker" }, picture, text), show };
  }

  function start(data) {
    const length = data.paths[0].frames.length;
    const largest = data.paths[0].steps.map((_, t) =>
      Math.max(...data.paths.map((path) => path.steps[t])));
    const cells = data.paths.map((path) => cell(data, path));

    const stage = make("div", { class: "stage" });
    let row = null, model = null;
    data.paths.forEach((path, i) => {
      if (path.model !== model) {
        model = path.model;
        row = make("div", { class: "paths" });
        stage.append(make("div", { class: "model" }, model), row);
      }
      row.append(cells[i].element);
    });

    const button = make("button", { type: "button" });
    const slider = make("input", {
      type: "range", min: 0, max: length - 1, step: 1, value: 0, "aria-label": "Frame",
    });
    const ticks = make("div", { class: "ticks", "aria-hidden": "true" });
    largest.forEach((step, t) => {
      if (step > data.jump) {
        ticks.append(make("i", { style: `left: ${(100 * t) / (length - 1)}%` }));
      }
    });
    const speed = make("select", { "aria-label": "Speed" });
    for (const s of SPEEDS) speed.append(make("option", { value: s }, `${s} \u00d7`));
    speed.value = 1;
    const count = make("output", { "aria-hidden": "true" }); // the slider says it
    const key = make("div", { class: "key" });
    for (const [name, text] of [
      ["left", "left limbs"], ["right", "right limbs"],
      ["jump", `jump: a joint turns by more than ${data.jump}\u00b0`],
    ]) key.append(make("span", {}, make("i", { class: name }), text));
    const player = make(
      "div", { class: "player", tabindex: 0 },
      stage,
      make("div", { class: "controls" },
        button, make("div", { class: "track" }, ticks, slider), count, speed),
      key,
    );

    let frame = 0, playing = false, visible = true, due = 0, request = 0;

    function show(t) {
      frame = t;
      cells.forEach((c) => c.show(t));
      slider.value = t;
      const jump = largest[t] > data.jump ? ", jump" : "";
      slider.setAttribute("aria-valuetext", `frame ${t + 1} of ${length}${jump}`);
      count.value = `${t + 1} / ${length}`;
    }

    function play(on) {
      playing = on;
      button.textContent = on ? "Pause" : "Play";
      if (on && frame === length - 1) show(0);
      due = 0;
      cancelAnimationFrame(request);
      if (on) request = requestAnimationFrame(tick);
    }

    function tick(now) {
      if (!playing || !visible) return;
      const lasts = 1000 / (data.fps * speed.value);
      if (!due) due = now + lasts;
      if (now >= due) {
        show((frame + 1) % length);
        due = Math.max(due, now - lasts) + lasts + (frame === length - 1 ? REST : 0);
      }
      request = requestAnimationFrame(tick);
    }

    function go(t) {
      play(false);
      show(Math.min(Math.max(t, 0), length - 1));
    }

    button.addEventListener("click", () => play(!playing));
    stage.addEventListener("click", () => play(!playing));
    slider.addEventListener("input", () => go(Number(slider.value)));
    player.addEventListener("keydown", (event) => {
      const others = event.target === speed || event.ctrlKey || event.altKey || event.metaKey;
      const keys = {
        ArrowLeft: () => go(frame - 1), ArrowRight: () => go(frame + 1),
        Home: () => go(0), End: () => go(length - 1),
      };
      if (event.target !== button) keys[" "] = () => play(!playing); // a button takes it itself
      if (others || !(event.key in keys)) return;
      event.preventDefault();
      keys[event.key]();
    });
    new IntersectionObserver(([entry]) => {
      visible = entry.isIntersecting;
      if (visible && playing) play(true);
    }).observe(player);

    function shown() {
      show(0);
      play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
    }
    return { element: player, shown };
  }

  explorers("motion-player", start);
})();
