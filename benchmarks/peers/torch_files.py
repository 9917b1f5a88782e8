"""Builds a model of `models.py` in PyTorch, with given weights, as TorchScript files: float32 and dynamic int8.

    python torch_files.py < job.json

The job is {"shape", "dtype", "layers", "weights": path of an .npz, "float32": path to write, "int8": the same}. Needs
nothing of edgelstm, but a Python that has PyTorch.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import torch
from torch import nn

warnings.filterwarnings("ignore")  # TorchScript and eager quantization are old, but what PyTorch runs fastest on a CPU


class Embedding(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.inner = nn.Embedding.from_pretrained(torch.tensor(table))

    def forward(self, x):
        return self.inner(x)


class Lstm(nn.Module):
    def __init__(self, ways, features, units, sequences):
        super().__init__()
        self.inner = nn.LSTM(features, units, batch_first=True, bidirectional=len(ways) == 2)
        self.sequences = sequences
        with torch.no_grad():
            for suffix, (kernel, recurrent, bias) in zip(("", "_reverse"), ways, strict=False):
                getattr(self.inner, f"weight_ih_l0{suffix}").copy_(torch.tensor(kernel.T.copy()))
                getattr(self.inner, f"weight_hh_l0{suffix}").copy_(torch.tensor(recurrent.T.copy()))
                getattr(self.inner, f"bias_ih_l0{suffix}").copy_(torch.tensor(bias))
                getattr(self.inner, f"bias_hh_l0{suffix}").zero_()

    def forward(self, x):
        steps, (last, _) = self.inner(x)
        if self.sequences:
            return steps
        return last.permute(1, 0, 2).reshape(last.size(1), -1)


class Conv(nn.Module):
    def __init__(self, kernel, bias):
        super().__init__()
        self.inner = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, stride=2)
        with torch.no_grad():
            self.inner.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1).copy()))
            self.inner.bias.copy_(torch.tensor(bias))

    def forward(self, x):
        batch, time = x.size(0), x.size(1)
        frames = x.flatten(0, 1).permute(0, 3, 1, 2)
        return torch.relu(self.inner(frames)).permute(0, 2, 3, 1).unflatten(0, [batch, time])


class Pool(nn.Module):
    def forward(self, x):
        return x.mean(dim=[2, 3])


class Dense(nn.Module):
    def __init__(self, kernel, bias, activation):
        super().__init__()
        self.inner = nn.Linear(*kernel.shape)
        self.activation: str = activation
        with torch.no_grad():
            self.inner.weight.copy_(torch.tensor(kernel.T.copy()))
            self.inner.bias.copy_(torch.tensor(bias))

    def forward(self, x):
        x = self.inner(x)
        if self.activation == "sigmoid":
            return torch.sigmoid(x)
        if self.activation == "softmax":
            return torch.softmax(x, dim=-1)
        return x


def build(layers, weights):
    """Returns the model; weights are in Keras' order."""
    made, take = [], iter(weights)
    for layer in layers:
        kind = layer["kind"]
        if kind == "embedding":
            made.append(Embedding(next(take)))
        elif kind == "lstm":
            ways = [[next(take) for _ in range(3)] for _ in range(2 if layer["both_ways"] else 1)]
            made.append(Lstm(ways, ways[0][0].shape[0], layer["units"], layer["sequences"]))
        elif kind == "conv":
            made.append(Conv(next(take), next(take)))
        elif kind == "pool":
            made.append(Pool())
        else:
            made.append(Dense(next(take), next(take), layer["activation"]))
    return nn.Sequential(*made).eval()


def main():
    job = json.load(sys.stdin)
    with np.load(job["weights"]) as file:
        weights = [file[name] for name in file.files]
    model = build(job["layers"], weights)
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    x = torch.zeros([1, *job["shape"]], dtype=getattr(torch, job["dtype"]))
    for each, path in ((model, job["float32"]), (quantized, job["int8"])):
        scripted = torch.jit.script(each)
        with torch.inference_mode():
            output = scripted(x)
        description = {
            "inputs": [{"name": "x", "shape": [-1, *job["shape"]], "dtype": job["dtype"]}],
            "outputs": [{"name": "y", "shape": [-1, *output.shape[1:]], "dtype": "float32"}],
        }
        torch.jit.save(scripted, path, _extra_files={"edgelstm.json": json.dumps(description)})


if __name__ == "__main__":
    main()
