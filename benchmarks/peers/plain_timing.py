"""Times a .tflite file with a plain loop: python plain_timing.py MODEL WARMUP_SECONDS SECONDS [CORE …]"""

import json
import os
import sys
import time

if sys.argv[4:]:
    os.sched_setaffinity(0, [int(core) for core in sys.argv[4:]])

import numpy as np
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
random = np.random.default_rng(0)
for detail in interpreter.get_input_details():
    if np.issubdtype(detail["dtype"], np.floating):
        value = random.standard_normal(detail["shape"]).astype(detail["dtype"])
    else:
        value = random.integers(0, 2, detail["shape"]).astype(detail["dtype"])
    interpreter.set_tensor(detail["index"], value)

end = time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < end:
    interpreter.invoke()
durations = []
end = time.perf_counter() + float(sys.argv[3])
while time.perf_counter() < end:
    start = time.perf_counter_ns()
    interpreter.invoke()
    durations.append(time.perf_counter_ns() - start)
print(json.dumps(durations))
