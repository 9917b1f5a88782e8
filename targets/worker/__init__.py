"""The worker: runs, observes, times or counts one model in one runtime, in a process of its own.

One standalone program for every target. It needs Python 3.9, numpy and one runtime, and nothing of edgelstm.
`edgelstm.runtime.child.worker_file` packs this package into one file, which can be copied to a device and started:

    python -I -B worker.pyz < plan.json

It reads one JSON object, the plan, from stdin up to its end, and writes JSON objects, the events, to stdout, one per
line. Whatever native libraries print goes to stderr. All paths are paths on the machine that the worker runs on.

Plan, all operations:
    protocol        1
    op              "load", "run", "observe", "bench" or "count"
    model           path of the file; a .tflite file has at most one signature. What does not end in .onnx, .pt, .keras
                    or .h5 counts as a .tflite file. A runtime refuses files that it does not take
    runtime         "auto" (default): the first that is installed, for
                        .tflite     ai-edge-litert, tflite-runtime
                        .onnx       onnxruntime, openvino
                        .pt         pytorch: TorchScript with an extra file edgelstm.json in it, {"inputs", "outputs":
                                    [{"name", "shape", "dtype"}]}, -1 for a free size
                        .keras .h5  keras-tensorflow, keras-jax, keras-torch
                    or one of these, or, for .tflite files,
                        litert-compiled     the CompiledModel of ai-edge-litert, on the CPU
                        tflite-micro        the interpreter for microcontrollers, compiled for this machine
                        tensorflow-lite     the Interpreter inside TensorFlow
                    ai-edge-litert, tflite-runtime and tensorflow-lite have an Interpreter
    threads         number of threads of the runtime, default 1, the only one that tflite-micro takes. onnxruntime:
                    within an operator; operators follow one another. On a GPU it says nothing
    delegate        null (default), or {"library": path of an external delegate, "options": {name: text}}; only with an
                    Interpreter
    device          "cpu" (default), or "gpu" for onnxruntime (its CUDA provider) and keras-…. Without such a device it
                    is an error, never a quiet run on the CPU
    mode            of keras-…: "jit" (default): XLA with tensorflow (tf.function(jit_compile=True)) and jax (jax.jit),
                    torch.compile of the whole model with torch; "graph": a tf.function without XLA, only tensorflow;
                    "eager": operator by operator. A model that the backend cannot compile is an error
    dtype           "float32" (default), the model as it is, or "float16" for
                        keras-…     the model is rebuilt from its config with the dtype policy "float16" in every
                                    layer, and its weights rounded. Its inputs keep their dtype and are cast by the
                                    first layer; its outputs are float16
                        openvino    its inference precision
    cores           numbers of the processors that this process stays on, from before numpy and the runtime are
                    imported. Default null: all. Ignored where the system cannot do it
    A key that the operation does not know is an error.

Names: tensors go by the input and output names of the signature; without a signature by tensor name. In .onnx files by
the names of the graph. In Keras models by the keys of dicts, else inputs by their own names and outputs by those of
their layers; names that Keras made up are input, input_2, …, and output, output_2, ….
Arrays come and go in .npz files, one array per name, the calls along the first axis: shape (calls, *tensor shape).
Inputs are cast to the tensor's dtype where no value changes its meaning: floats to another float, integers to another
integer that holds them, integers to float. Floats for a quantized tensor are quantized with its scale and zero point.
Anything else is an error. Dimensions that the file leaves free take the size that is given; tflite-micro takes them as
one.

op "load": loads the model, nothing more.

op "run": all calls in one interpreter, in the given order, state surviving from call to call.
    inputs          path of the .npz to read
    outputs         path of the .npz to write; outputs are as the runtime gives them, quantized ones too
    reset           true: reset all variables before every call. Default false. CompiledModel takes no files with
                    variables
    sequence        number of calls that belong together. With it, reset is before the first call of each sequence only.
                    Default null: all calls are one sequence
    carry           {name of an input: name of an output}: inputs that the .npz does not hold. They are zero in the
                    first call of each sequence, and in the others take what the call before gave. Default none

op "observe": as run, but instead of the outputs writes what all tensors of the first subgraph held. Delegates are off.
    It needs an Interpreter.
    inputs, reset, sequence  as run
    ranges          path of the .npz to write:
                    min, max     shape (num_tensors,): least and greatest finite value of every tensor over all calls,
                                 NaN where the tensor is not float or was never filled
                    cell_peak    shape (len(lstms),): max |c| over all calls, rows, steps and units, c initial included
    lstms           list, default empty, of LSTMs whose cell state to follow. It is computed from the operator's own
                    input and output sequences, since runtimes show only the cell state after the last step:
                    input        index of the input tensor, float, shape (batch, time, features)
                    output       index of the output sequence, float, shape (batch, time, units)
                    hidden_state index of the initial hidden state, shape (batch, units), or null: zeros
                    cell_state   the same for the cell state
                    carried      true: those two are variable tensors that the operator overwrites, so they are read
                                 before each call (a streaming model). Default false: read after each call
                    weights      path of an .npz: kernel (features, 4 * units), recurrent_kernel (units, 4 * units),
                                 bias (4 * units,), gate blocks in the order i, f, c, o
                    activation   "tanh" (default), "relu", "relu6" or "hard_tanh"

op "bench": times calls one by one. Inputs are set outside the timed part, and are on the device; the end of the timed
    part waits for the device. What a runtime compiles at the first call is part of that call.
    plan            {"warmup_s": s, "max_warmup_s": s, "min_runs": n, "max_s": s, "max_runs": n}: a warm-up, then timed
                    calls until max_s seconds have passed, at least min_runs and at most max_runs (default 20000).
                    The warm-up takes at least warmup_s seconds, and then until the medians of its last two windows
                    differ by less than 2 %. A window has at least 5 calls, and lasts at least a quarter of warmup_s or
                    has a quarter of max_runs calls. It ends, stable or not, after max_warmup_s seconds (default 5 times
                    warmup_s) or max_runs calls
    inputs          path of an .npz whose calls are fed in turn, or null (default): random input, integers 0 or 1,
                    only 1 where a Keras model masks (an Embedding with mask_zero, or Masking)
    seed            of the random input, default 0
    batch, length   sizes of the random input: the first dimension of every input, and the second one where it is free.
                    Default null: as in the file; a batch that is free is then 1, a length that is free is an error. So
                    is a fixed size that differs
    reset           as run, outside the timed part
    profile         true: time by operator, from further calls after the timed ones; only onnxruntime can. Default false
    started_ns      time.time_ns() when this process was started, for "process_us"; default null

op "count": makes calls between marks that an emulator can see. A mark is the system call 9999 with a number: Linux
    does not use it, answers ENOSYS and changes nothing; only an emulator's plugin listens. After 3 calls come the marks
    0 and 0 again, whose distance is the cost of a mark, then after call k mark k. From mark to mark the inputs are set
    and the call is made. Linux only.
    inputs, seed, batch, length  as bench
    calls           how many, default 1
    outputs         path of an .npz to write with the outputs of the last call, shape (1, *tensor shape); default null

Events:
    {"event": "ready", "runtime", "runtime_version", "python", "numpy", "load_us"}        once the model is loaded
    {"event": "result", "inputs": [tensor], "outputs": [tensor], …}                       the last one; exit status 0
        tensor      {"name", "index", "shape", "shape_signature", "dtype", "scale", "zero_point"}; in shape_signature -1
                    is a free dimension; scale and zero_point are null unless the tensor is quantized
        tflite-micro + "arena_bytes": memory for all tensors and bookkeeping, as the runtime measured it
        run         + "calls"
        observe     + "calls", "num_tensors", "not_finite": [indices of tensors that held a NaN or an infinity]
        count       + "calls"
        bench       + "samples_ns", "warmup_ns": [durations in order], "first_invoke_us", "load_us" (creating the
                    interpreter and allocating tensors), "base_rss_bytes" and "peak_rss_bytes" (resident memory before
                    the model is loaded, and at most; null where the system does not tell), "outputs_finite" (false if a
                    float output held a NaN or an infinity after the last call), and these:
        machine         {"device", "cpu", "num_cores", "cores", "governor", "system", "architecture", "load_average"},
                        values null if unknown. num_cores is how many processors the process could use before it was
                        kept on cores; cores are those, null if it is kept on none
        shapes          {name of an input: shape} of a call
        warmup_stable   whether the warm-up ended because it was stable, see plan; null without a warm-up
        overhead_ns     what timing costs: median duration of 1000 calls that do nothing, in the same loop. It is part
                        of every duration
        prepare_ns      what is done around a call, and is part of no duration: median time from the end of one to the
                        beginning of the next, of 200 that do nothing, with the inputs and resets of the timed ones
        cold_start      {"process_us", "import_us", "load_us", "first_invoke_us"}: from the start of the process to the
                        first line of the worker (without started_ns in ticks of the system's clock; null if unknown),
                        importing numpy and the runtime, loading the model, the first call
        conditions      [{"at", "elapsed_s", "governor", "clock_khz", "temperature_c", "throttled"}]: "before" the first
                        call, about once per second "during" the timed ones, between two of them, and "after". The clock
                        is that of the first of cores, else of processor 0; the temperature the highest that the
                        processor's thermal zones tell; throttled what `vcgencmd get_throttled` says, asked before,
                        after, and at most every 2 seconds during. Null where unknown
        energy          null, or {"source", "joules", "seconds", "calls", "idle_watts"} of the timed calls and what goes
                        on between them: "rapl:package-0", the counter of the processor, all of whose cores count, or
                        "ina:<name>", a sensor of the board, read between calls, at most every 50 ms, and integrated.
                        idle_watts is null: it is not measured here
        arena_bytes     as above; null where the runtime does not tell
        operators       with profile, [{"name", "operator", "inferences", "calls", "total_us"}] of each node of the
                        graph, the longest first: total_us / inferences is its part of one inference, in which a node in
                        a loop has several of its calls. Null where the runtime offers no profile
    {"event": "error", "message"}                                                         the last one; exit status 1
A worker that ends without "result" or "error" was killed by a signal, or its Python could not start it.
"""
