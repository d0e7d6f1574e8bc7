// Run the float model and the INT8 model on the same samples, in turn, and compare outputs and times.

/**
 * @param ort the module onnxruntime-web.
 * @param models the two model files, float first, as ArrayBuffer.
 * @param images {data: Float32Array, shape: [N, ...]} of the main input.
 * @param options count: samples to run; repeats: timed runs of each model; providers: ['wasm'] or ['webgpu'].
 * @return {samples, agreement, snr, ms: [float, int8], ratio, classes: [[float, int8], ...]}.
 */
export async function compare(ort, models, images, { count = 16, repeats = 30, providers = ['wasm'] } = {}) {
  const sessions = [];
  for (const model of models) {
    sessions.push(await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: providers }));
  }
  const samples = Math.min(count, images.shape[0]);
  const classes = [];
  let signal = 0, noise = 0;
  for (let index = 0; index < samples; index++) {
    const outputs = [];
    for (const session of sessions) outputs.push(await run(ort, session, images, index));
    classes.push(outputs.map(largest));
    outputs[0].forEach((value, at) => { signal += value ** 2; noise += (value - outputs[1][at]) ** 2; });
  }
  const times = [[], []];
  for (let round = 0; round < repeats; round++) {
    for (const which of round % 2 ? [0, 1] : [1, 0]) {
      const started = performance.now();
      await run(ort, sessions[which], images, round % samples);
      times[which].push(performance.now() - started);
    }
  }
  const ms = times.map((list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)]);
  const same = classes.filter(([float, int8]) => float === int8).length;
  return {
    samples, ms, classes, ratio: ms[0] / ms[1], agreement: (100 * same) / samples,
    snr: noise ? 10 * Math.log10(signal / noise) : Infinity,
  };
}

async function run(ort, session, images, index) {
  const size = images.data.length / images.shape[0];
  const part = images.data.slice(index * size, (index + 1) * size);
  const feeds = { [session.inputNames[0]]: new ort.Tensor('float32', part, [1, ...images.shape.slice(1)]) };
  const outputs = await session.run(feeds);
  return outputs[session.outputNames[0]].data;
}

function largest(scores) {
  let best = 0;
  scores.forEach((score, at) => { if (score > scores[best]) best = at; });
  return best;
}

/** One sentence for people. */
export function verdict({ ms, ratio }) {
  const times = `${ms[1].toFixed(2)} ms against ${ms[0].toFixed(2)} ms in float`;
  if (ratio < 0.95) return `INT8 is slower than float in this browser: ${times}. Ship the float model where its size is no matter.`;
  if (ratio <= 1.05) return `INT8 is about as fast as float in this browser: ${times}.`;
  return `INT8 is ${ratio.toFixed(2)} times as fast as float in this browser: ${times}.`;
}
