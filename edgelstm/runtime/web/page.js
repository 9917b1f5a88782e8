// Runs all calls of one model on LiteRT.js, one after the other. Arrays come and go as bytes, so that every bit of a
// float arrives. What there is to fetch and to send stands in server.py.

const ARRAYS = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };

// LiteRT.js gives the reasons of its errors to the console only, and a call whose operators fail returns as if all
// were well, with what its outputs held before.
const errors = [];
for (const level of ["log", "info", "warn", "error"]) {
  console[level] = (...parts) => {
    const line = parts.map(String).join(" ");
    if (/^\W*(ERROR|FATAL)\b/.test(line)) errors.push(line);
  };
}

async function get(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} could not be fetched: ${response.status}`);
  return response;
}

async function send(path, body) {
  const response = await fetch(path, { method: "POST", body });
  if (!response.ok) throw new Error(`${path} could not be sent: ${response.status}`);
}

// Returns [{name, shape, at}], where at(index, previous) is the input's values in a call, given the outputs of the
// call before it.
async function readInputs(model, plan) {
  const inputs = [];
  for (const { name, dtype, shape } of model.getInputDetails()) {
    const size = shape.reduce((product, length) => product * length, 1);
    if (name in plan.carry) {
      const { output, begin } = plan.carry[name];
      const first = new ARRAYS[dtype](size).fill(begin);
      inputs.push({ name, shape, at: (index, previous) => (index % plan.sequence ? previous[output] : first) });
    } else if (plan.inputs.includes(name)) {
      const bytes = await (await get(`input/${plan.inputs.indexOf(name)}`)).arrayBuffer();
      const values = new ARRAYS[dtype](bytes);
      inputs.push({ name, shape, at: (index) => values.slice(index * size, (index + 1) * size) });
    } else {
      throw new Error(`it calls an input ${name} that the file calls otherwise`);
    }
  }
  return inputs;
}

async function call(litert, model, inputs, index, previous) {
  const fed = inputs.map(({ name, shape, at }) => [name, new litert.Tensor(at(index, previous), shape)]);
  const errorsBefore = errors.length;
  const started = performance.now();
  const results = await model.run(Object.fromEntries(fed));
  const elapsed_ms = performance.now() - started;
  if (errors.length > errorsBefore) throw new Error(`call ${index + 1} failed`);
  const outputs = {};
  for (const [name, tensor] of Object.entries(results)) {
    outputs[name] = await tensor.data();
    tensor.delete();
  }
  for (const [, tensor] of fed) tensor.delete();
  return { outputs, elapsed_ms };
}

async function run() {
  const plan = await (await get("plan.json")).json();
  const content = new Uint8Array(await (await get("model.tflite")).arrayBuffer());
  const litert = await import("@litertjs/core");
  await litert.loadLiteRt("./packages/core/wasm/");
  const started = performance.now();
  const model = await litert.loadAndCompile(content, { accelerator: "wasm" });
  const load_ms = performance.now() - started;
  const inputs = await readInputs(model, plan);
  const calls = [];
  for (let index = 0; index < plan.calls; index++) {
    calls.push(await call(litert, model, inputs, index, calls.at(-1)?.outputs));
  }
  const outputs = model.getOutputDetails().map(({ name, dtype, shape }) => ({ name, dtype, shape: [...shape] }));
  for (const [index, { name }] of outputs.entries()) {
    await send(`output/${index}`, new Blob(calls.map((done) => done.outputs[name])));
  }
  const latencies_ms = calls.map((done) => done.elapsed_ms);
  return { outputs, latencies_ms, load_ms, browser: navigator.userAgent };
}

let answer;
try {
  answer = await run();
} catch (error) {
  answer = { failed: String(error?.message ?? error), errors };
}
await send("done", JSON.stringify(answer));
