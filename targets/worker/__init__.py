"""The worker: runs, observes or times one model in one runtime, in a process of its own.

One standalone file for every target. It needs Python 3.9, numpy and one runtime, and nothing of edgelstm, so it can be
copied to a device and started there. Start it isolated, or the module `statistics` beside it hides Python's:

    python -I -B worker.py < plan.json

It reads one JSON object, the plan, from stdin up to its end, and writes JSON objects, the events, to stdout, one per
line. Whatever native libraries print goes to stderr. All paths are paths on the machine that the worker runs on.

Plan, all operations:
    protocol        1
    op              "load", "run", "observe" or "bench"
    model           path of the .tflite file; it has at most one signature
    runtime         "ai-edge-litert" or "tflite-runtime", which have an Interpreter; "auto": the first of these two that
                    is installed (default); "litert-compiled": the CompiledModel of ai-edge-litert, on the CPU;
                    "tflite-micro": the interpreter for microcontrollers, compiled for this machine
    threads         number of threads of the runtime, default 1, the only one that tflite-micro takes
    delegate        null (default), or {"library": path of an external delegate, "options": {name: text}}; only with an
                    Interpreter
    A key that the operation does not know is an error.

Names: tensors go by the input and output names of the signature; without a signature by tensor name.
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

op "bench": times calls one by one.
    plan            {"warmup_s": s, "min_runs": n, "max_s": s, "max_runs": n}: calls for warmup_s seconds, then timed
                    ones until max_s seconds have passed, at least min_runs and at most max_runs (default 20000)
    inputs          path of an .npz whose calls are fed in turn, or null (default): random input, integers 0 or 1
    seed            of the random input, default 0
    reset           as run, outside the timed part

Events:
    {"event": "ready", "runtime", "runtime_version", "python", "numpy", "load_us"}        once the model is loaded
    {"event": "result", "inputs": [tensor], "outputs": [tensor], …}                       the last one; exit status 0
        tensor      {"name", "index", "shape", "shape_signature", "dtype", "scale", "zero_point"}; in shape_signature -1
                    is a free dimension; scale and zero_point are null unless the tensor is quantized
        tflite-micro + "arena_bytes": memory for all tensors and bookkeeping, as the runtime measured it
        run         + "calls"
        observe     + "calls", "num_tensors", "not_finite": [indices of tensors that held a NaN or an infinity]
        bench       + "samples_ns", "warmup_ns": [durations in order], "first_invoke_us", "load_us" (creating the
                    interpreter and allocating tensors), "base_rss_bytes" and "peak_rss_bytes" (resident memory before
                    the model is loaded, and at most; null where the system does not tell), "outputs_finite" (false if a
                    float output held a NaN or an infinity after the last call), "machine": {"device", "cpu",
                    "num_cores", "governor", "system", "architecture", "load_average"}, values null if unknown
    {"event": "error", "message"}                                                         the last one; exit status 1
A worker that ends without "result" or "error" was killed by a signal, or its Python could not start it.
"""
