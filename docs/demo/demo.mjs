// The page: what is drawn goes to the network, and what the network computes goes to the page.

import { picture } from "./drawing.mjs";
import { predict, selfTest } from "./net.mjs";
import { probability, recorded } from "./spirals.mjs";

const SIDE = 8; // cells
const WARM = [232, 116, 40], COOL = [52, 130, 220]; // red, green, blue; seen on a light and on a dark page
const element = (id) => document.getElementById(id);
const load = async (name) => (await fetch(new URL(name, import.meta.url))).json();

function made(tag, properties = {}, ...children) {
  const found = Object.assign(document.createElement(tag), properties);
  found.append(...children);
  return found;
}

// A canvas of a pixel for each number; colour(number) is [red, green, blue, opacity from 0 to 1].
function pixels(numbers, side, colour) {
  const canvas = made("canvas", { width: side, height: side }), context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  numbers.forEach((number, i) => {
    const [red, green, blue, opacity] = colour(number);
    image.data.set([red, green, blue, 255 * opacity], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

const black = (ink) => [0, 0, 0, ink]; // demo.css makes it white where the page is dark
const signed = (value) => [...(value > 0 ? WARM : COOL), Math.abs(value)];

// ---- a digit ----

const digits = await load("digits.json");
let strokes = []; // arrays of points [x, y] from 0 to 1; none where the cells came from elsewhere
let cells = new Float64Array(SIDE * SIDE); // what the network sees
let drawing = null; // the pointer that draws

const rows = Array.from({ length: SIDE }, () => made("div", { role: "row" }));
const cellElements = Array.from(cells, (_, i) => made("span", { role: "gridcell", tabIndex: i ? -1 : 0 }));
rows.forEach((row, r) => row.append(...cellElements.slice(r * SIDE, (r + 1) * SIDE)));
element("cells").append(...rows);

// An item of a list: what it names, a bar, and the share of the bar as a number.
function barred(name, spoken) {
  const bar = made("span", { className: "bar", ariaHidden: "true" });
  const number = made("span", { className: spoken ? "spoken" : "" }), item = made("li", {}, name, bar, number);
  const set = (share) => {
    bar.style.setProperty("--share", share);
    number.textContent = share.toFixed(2);
  };
  return { item, set };
}

const outputs = Array.from({ length: 10 }, (_, digit) => barred(made("span", { textContent: digit }), false));
element("outputs").append(...outputs.map(({ item }) => item));

const neurons = digits.weights.map((weights, j) => {
  const largest = Math.max(...weights.map(Math.abs));
  const canvas = pixels(weights.map((weight) => weight / largest), SIDE, signed);
  return barred(Object.assign(canvas, { role: "img", ariaLabel: `Weights of neuron ${j + 1}, its output` }), true);
});
element("neurons").append(...neurons.map(({ item }) => item));

function activations() {
  return digits.weights.map((weights, j) => {
    const sum = weights.reduce((total, weight, i) => total + weight * cells[i], digits.biases[j]);
    return 1 / (1 + Math.exp(-sum));
  });
}

function inWords(shares, [first, second]) {
  const named = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`, of = (digit) => shares[digit].toFixed(2);
  if (shares[first] >= 0.5) return `This is ${named(first)}, with probability ${of(first)}.`;
  return `Not sure: perhaps ${named(first)} (${of(first)}) or ${named(second)} (${of(second)}).`;
}

function showAnswer() {
  const empty = cells.every((ink) => ink === 0);
  const shares = empty ? Array(10).fill(0) : [...predict(cells)];
  const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
  element("digit").textContent = empty ? "" : order[0];
  element("words").textContent = empty ? "Nothing is drawn yet." : inWords(shares, order);
  outputs.forEach(({ item, set }, digit) => {
    set(shares[digit]);
    item.classList.toggle("best", !empty && digit === order[0]);
  });
  const hidden = activations();
  neurons.forEach(({ set }, j) => set(empty ? 0 : hidden[j]));
  element("paper").classList.toggle("empty", empty);
}

function showCells() {
  cellElements.forEach((cell, i) => {
    cell.style.setProperty("--ink", cells[i]);
    const ink = `ink ${Math.round(16 * cells[i])} of 16`;
    cell.ariaSelected = String(cells[i] > 0.5);
    cell.ariaLabel = `Row ${Math.floor(i / SIDE) + 1}, column ${(i % SIDE) + 1}, ${ink}`;
  });
}

const canvas = element("canvas"), pen = canvas.getContext("2d");

function showDrawing() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  Object.assign(pen, { lineWidth: canvas.width / 16, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) {
    pen.beginPath();
    pen.moveTo(stroke[0][0] * canvas.width, stroke[0][1] * canvas.height);
    stroke.forEach(([x, y]) => pen.lineTo(x * canvas.width, y * canvas.height));
    pen.stroke();
  }
  if (!strokes.length) pen.drawImage(pixels(cells, SIDE, (ink) => black(ink / 3)), 0, 0, canvas.width, canvas.height);
}

function show() {
  showDrawing();
  showCells();
  showAnswer();
}

function endStroke() {
  drawing = null;
  element("verdict").ariaBusy = "false";
}

// What is drawn makes the cells.
function draw(newStrokes) {
  strokes = newStrokes;
  cells = picture(strokes);
  show();
}

// The cells come from elsewhere.
function fill(newCells) {
  endStroke();
  strokes = [];
  cells = newCells;
  show();
}

function toggle(i) {
  fill(cells.map((ink, k) => (k === i ? Number(ink <= 0.5) : ink)));
}

function position(event) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const within = (value) => Math.min(Math.max(value, 0), 1);
  return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
}

canvas.addEventListener("pointerdown", (event) => {
  if (drawing !== null || event.button !== 0) return;
  drawing = event.pointerId;
  element("verdict").ariaBusy = "true"; // a screen reader waits for the end of the stroke
  draw([...strokes, [position(event)]]);
});
addEventListener("pointermove", (event) => {
  if (event.pointerId !== drawing) return;
  const stroke = strokes.at(-1), [x, y] = position(event), [u, v] = stroke.at(-1);
  if (Math.hypot(x - u, y - v) < 0.01) return;
  stroke.push([x, y]);
  draw(strokes);
});
for (const end of ["pointerup", "pointercancel"]) {
  addEventListener(end, (event) => {
    if (event.pointerId === drawing) endStroke();
  });
}

element("undo").addEventListener("click", () => {
  endStroke();
  draw(strokes.slice(0, -1));
});
element("clear").addEventListener("click", () => fill(cells.map(() => 0)));

function moveTo(i) {
  cellElements.forEach((cell, k) => (cell.tabIndex = k === i ? 0 : -1));
  cellElements[i].focus();
}

cellElements.forEach((cell, i) => {
  const row = Math.floor(i / SIDE), column = i % SIDE;
  cell.addEventListener("click", () => {
    moveTo(i);
    toggle(i);
  });
  cell.addEventListener("keydown", (event) => {
    const places = {
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      Home: [row, 0],
      End: [row, SIDE - 1],
    };
    const place = places[event.key];
    if (event.key === " ") toggle(i);
    else if (place?.every((k) => k >= 0 && k < SIDE)) moveTo(SIDE * place[0] + place[1]);
    else if (!place) return;
    event.preventDefault();
  });
});

digits.samples.forEach((text, digit) => {
  const sample = Float64Array.from(text, (c) => parseInt(c, 17) / 16);
  const drawn = Object.assign(pixels(sample, SIDE, black), { className: "ink", ariaHidden: "true" });
  const button = made("button", { type: "button", ariaLabel: `Take a handwritten ${digit}` }, drawn);
  button.addEventListener("click", () => fill(sample));
  element("buttons").append(button);
});

element("score").textContent = `${digits.n_right} of ${digits.n_held_out}`;
const { rows: nTested, error, passed } = selfTest();
element("tested").textContent = passed
  ? `It has just done so in this browser: ${nTested} rows, largest error ${Number(error.toPrecision(2))}.`
  : "In this browser it does not pass its test.";
show();
const reveal = (...ids) => ids.forEach((id) => (element(id).hidden = false));
element("notice").hidden = true;
reveal("reading", "neurons");

// ---- the spirals ----

const record = await load("spirals.json"), networks = recorded(record);
const plane = element("plane"), slider = element("epoch"), play = element("play");
const EDGE = 1.15, REGION = 90; // the plane goes from -EDGE to EDGE; its picture has REGION pixels a side
const slow = matchMedia("(prefers-reduced-motion: reduce)");
let timer = null;

const middles = Array.from({ length: REGION }, (_, i) => ((i + 0.5) / REGION) * 2 * EDGE - EDGE);
const surely = (p) => [...(p > 0.5 ? WARM : COOL), Math.abs(2 * p - 1) * 0.6];

function showPlane(layers) {
  const context = plane.getContext("2d"), size = plane.width;
  const shares = middles.flatMap((y) => middles.map((x) => probability(layers, x, -y)));
  context.clearRect(0, 0, size, size);
  context.drawImage(pixels(shares, REGION, surely), 0, 0, size, size);
  record.points.forEach((points, spiral) => {
    context.fillStyle = `rgb(${spiral ? WARM : COOL})`;
    context.strokeStyle = "white";
    for (const [x, y] of points) {
      context.beginPath();
      context.arc(((x + EDGE) / 2 / EDGE) * size, ((EDGE - y) / 2 / EDGE) * size, 4.5, 0, 2 * Math.PI);
      context.fill();
      context.stroke();
    }
  });
}

function showEpoch() {
  const layers = networks[slider.value], epoch = record.epochs[slider.value], last = record.epochs.at(-1);
  const right = record.points.flatMap((points, spiral) =>
    points.map(([x, y]) => probability(layers, x, y) > 0.5 === (spiral === 1)),
  );
  const share = (100 * right.filter(Boolean).length) / right.length;
  showPlane(layers);
  element("now").textContent = epoch;
  element("of").textContent = `of ${last} epochs`;
  element("progress").textContent = `${share.toFixed(1)}% of the points are classified correctly.`;
  slider.ariaValueText = `epoch ${epoch} of ${last}, ${share.toFixed(1)}% correct`;
}

function pause() {
  clearInterval(timer);
  timer = null;
  play.textContent = "Play";
}

function goTo(i) {
  slider.value = i;
  showEpoch();
  if (slider.value === slider.max) pause();
}

const next = () => goTo(Number(slider.value) + 1);

play.addEventListener("click", () => {
  if (timer !== null) return pause();
  play.textContent = "Pause";
  timer = setInterval(next, slow.matches ? 1000 : 150);
  if (slider.value === slider.max) goTo(0);
  else next();
});
slider.addEventListener("input", () => {
  pause();
  showEpoch();
});

slider.max = record.epochs.length - 1;
goTo(slider.max);
reveal("learning");
