"""What plain users of PyTorch and ONNX Runtime write for a network of the zoo, NumPy to NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HALF = torch.float16
Call = Callable[[Any], Any]
Work = Callable[[], Any]


def graphed(call: Call, example: Any) -> Call:
    """Plain PyTorch as a CUDA graph."""
    static, stream = example.clone(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call(static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call(static)

    def run(x: Any) -> Any:
        static.copy_(x, non_blocking=True)
        graph.replay()
        return result

    return run


def network(name: str, batch: int) -> Any:
    """A network of the zoo as a module of PyTorch's."""
    from tests.support.torch_zoo import Twin  # the zoo needs coremltools

    made = Twin(name).eval()
    if name == "vit":
        made.register_buffer("cls_token", made.p("cls_token").expand(batch, -1, -1).contiguous())
    return made


def twin(name: str, batch: int, dtype: Any, device: str, *, channels_last: bool = False) -> Call:
    """A network of the zoo in plain PyTorch."""
    made = network(name, batch).to(device, dtype)
    if channels_last:
        for key, value in made.named_buffers():
            if value.ndim == 4:
                made._buffers[key] = value.to(memory_format=torch.channels_last)

    def call(x: Any) -> Any:
        x = x.to(dtype) if x.is_floating_point() else x
        return made(x.to(memory_format=torch.channels_last) if channels_last else x)

    return call


def plain(name: str, x: Any, precision: str, device: str, compiled: str) -> dict[str, Any]:
    """Plain PyTorch from NumPy to NumPy, in several ways; a reason where one does not work.

    ``compiled``: the mode of torch.compile; empty: without.
    """
    gpu, dtype = device != "cpu", HALF if precision == "fp16" else torch.float32
    example, host = torch.from_numpy(x).to(device), torch.from_numpy(x)
    host = host.pin_memory() if gpu else host.clone()
    call = twin(name, len(x), dtype, device)
    makers: dict[str, Callable[[], Any]] = {}
    if compiled:  # first: it frees what graphs that were captured before have cuBLAS compute in
        makers[f"torch.compile, {compiled}"] = lambda: torch.compile(call, mode=compiled)
    makers |= {"eager": lambda: call, "CUDA graph": lambda: graphed(call, example)}
    if name in {"resnet50", "mobilenet_v2"}:
        last = twin(name, len(x), dtype, device, channels_last=True)
        makers["CUDA graph, channels last"] = lambda: graphed(last, example)

    def whole(run: Call) -> Callable[[], Any]:
        def once() -> Any:
            host.numpy()[...] = x
            return run(host.to(device, non_blocking=True)).float().cpu().numpy()

        return once

    ways: dict[str, Any] = {}
    for way, make in makers.items():
        try:
            run = whole(make())
            for _ in range(3):  # torch.compile captures in the second
                run()
            ways[way] = run
        except Exception as error:  # noqa: BLE001 - that way is left out, with the reason
            ways[way] = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return ways


class Whole(torch.nn.Module):
    """A network that takes and gives fp32, whatever it computes in."""

    def __init__(self, network: Any, dtype: Any) -> None:
        super().__init__()
        self.network, self.dtype = network.to(dtype), dtype

    def forward(self, x: Any) -> Any:
        x = x.to(self.dtype) if x.is_floating_point() else x
        return self.network(x).float()


def exported(
    name: str, x: Any, folder: str, dtype: Any = torch.float32, device: str = "cpu"
) -> Path:
    """The ONNX file that PyTorch makes of the network."""
    file = Path(folder) / "plain.onnx"
    whole, given = Whole(network(name, len(x)), dtype).to(device), torch.from_numpy(x).to(device)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(whole, (given,), str(file), dynamo=False, opset_version=17)
    return file


def onnx_runtime(file: Path, x: Any, threads: int = 0, providers: Any = ()) -> Work:
    """ONNX Runtime with its defaults; ``threads``: 0 for as many as it likes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    where = [*providers, "CPUExecutionProvider"]
    session = ort.InferenceSession(str(file), options, providers=where)
    if len(session.get_providers()) < len(where):  # it falls back to the processor without a word
        raise RuntimeError(f"only {', '.join(session.get_providers())} could be used")
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def on_cuda(name: str, x: Any, precision: str, folder: str) -> Work | str:
    """ONNX Runtime on the GPU, on PyTorch's export and without TF32; or why not."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        return f"ONNX Runtime is not installed: {error}"
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return f"ONNX Runtime {ort.__version__} as installed has no CUDA provider"
    try:
        ort.preload_dlls()  # those that PyTorch brings
        file = exported(name, x, folder, HALF if precision == "fp16" else torch.float32, "cuda")
        run = onnx_runtime(file, x, providers=[("CUDAExecutionProvider", {"use_tf32": 0})])
        run()
    except Exception as error:  # noqa: BLE001 - that way is left out, with the reason
        return f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return run
