// A network of which the weights were recorded while it learnt: 2 inputs, two layers of tanh, one output of a sigmoid.

// record: what docs/demo.py writes to spirals.json. Gives for each recorded epoch the layers, [{ weights, biases }].
export function recorded({ sizes, scale, parameters, epochs }) {
  const bytes = Uint8Array.from(atob(parameters), (c) => c.charCodeAt(0));
  const values = Float64Array.from(new Int16Array(bytes.buffer), (v) => v * scale);
  let at = 0;
  const take = (n) => values.subarray(at, (at += n));
  return epochs.map(() =>
    sizes.slice(1).map((n, l) => ({ weights: take(n * sizes[l]), biases: take(n) })), // weights (n, inputs), by rows
  );
}

function dense({ weights, biases }, inputs) {
  const sums = biases.slice(), n = inputs.length;
  for (let j = 0; j < sums.length; j++) for (let i = 0; i < n; i++) sums[j] += weights[j * n + i] * inputs[i];
  return sums;
}

// The probability that a point belongs to the second spiral.
export function probability(layers, x, y) {
  let values = Float64Array.of(x, y);
  for (const layer of layers.slice(0, -1)) values = dense(layer, values).map(Math.tanh);
  return 1 / (1 + Math.exp(-dense(layers.at(-1), values)[0]));
}
