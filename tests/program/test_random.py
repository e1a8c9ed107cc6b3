"""Random numbers in programs: tensors, compiled functions, loops, states, ONNX files, PyTorch's."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import coreml_lab as cl
from coreml_lab.program.graph import Dim
from coreml_lab.program.mil.tools import ct, mb, quiet
from coreml_lab.program.ops import draws
from tests.support.converting import convert
from tests.support.stateful import build, save, state, tensor

pytestmark = pytest.mark.filterwarnings("ignore")
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
ARMS = ("portable", "reference")
ENGINES = (*ARMS, *(["pytorch"] if HAS_TORCH else []))
DEVICE = {"portable": "coreml", "reference": "cpu", "pytorch": "cpu"}


def arms(package: Path) -> list[cl.Model]:
    """The model on each engine."""
    return [cl.load(package, engine=engine) for engine in ARMS]


def test_a_tensor_is_drawn_once_and_everything_computed_from_it_agrees() -> None:
    t = cl.ops.random_normal([50])
    double, more = t * 2.0, t + 1.0
    np.testing.assert_allclose(double.numpy(), more.numpy() * 2 - 2, atol=1e-6)
    np.testing.assert_allclose(double.numpy(), t.numpy() * 2, atol=1e-6)
    np.testing.assert_allclose((t - double).numpy(), -t.numpy(), atol=1e-6)


def test_two_tensors_without_a_seed_differ_and_two_with_one_do_not() -> None:
    assert (cl.ops.random_uniform([9]).numpy() != cl.ops.random_uniform([9]).numpy()).any()
    one, two = (cl.ops.random_uniform([9], seed=4).numpy() for _ in range(2))
    np.testing.assert_array_equal(one, two)
    a, b = cl.ops.random_normal([9]), cl.ops.random_normal([9])
    assert np.abs((a - b).numpy()).min() > 0


def test_draws_from_data_keep_what_they_drew_when_more_is_computed() -> None:
    x = cl.tensor(np.zeros((4, 5), np.float32))
    index = cl.ops.random_categorical(x, size=3)
    first = index.numpy()
    np.testing.assert_array_equal((index + 1.0).numpy(), first + 1)
    np.testing.assert_array_equal(((index + 1.0) * 2.0).numpy(), first * 2 + 2)


def test_a_compiled_function_draws_anew_in_every_run() -> None:
    def noisy(x: Any) -> Any:
        return x + cl.ops.random_normal([3, 4], stddev=0.5), x * cl.ops.random_bernoulli([3, 4])

    x = np.ones((3, 4), np.float32)
    for engine in ARMS:
        model = cl.compile(noisy, x=cl.spec(3, 4), engine=engine)
        one, two = (model.predict({"x": x})["output_0"] for _ in range(2))
        assert (one != two).all()
        assert set(np.unique(model.predict({"x": x})["output_1"])) <= {0.0, 1.0}


@pytest.mark.parametrize("engine", ARMS)
def test_the_shape_may_be_computed(engine: str) -> None:
    def like(x: Any) -> Any:
        return cl.ops.random_uniform(cl.ops.shape(x), low=2.0, high=3.0, seed=8)

    model = cl.compile(like, x=cl.spec(Dim("n", 1, 50), 3), engine=engine)
    drawn = {n: model.predict({"x": np.zeros((n, 3), np.float32)})["output"] for n in (1, 7, 50)}
    for n, numbers in drawn.items():
        assert numbers.shape == (n, 3)
        assert ((numbers >= 2) & (numbers < 3)).all()
        np.testing.assert_array_equal(numbers.ravel(), drawn[50].ravel()[: n * 3])


def test_the_upper_bound_never_comes_out_in_either_precision() -> None:
    for precision, dtype in (("fp32", np.float32), ("fp16", np.float16)):
        model = cl.compile(
            lambda x: cl.ops.random_uniform([100000], low=1.0, high=1.25, seed=1) + x * 0.0,
            x=cl.spec(1),
            precision=precision,
        )
        for engine in ENGINES:
            arm = cl.load(model.program.package, engine=engine, device=DEVICE[engine])
            top = arm.predict({"x": np.zeros(1, np.float32)})["output"].max()
            assert 1.249 < float(dtype(top)) < 1.25


@pytest.mark.parametrize("seeded", [True, False])
def test_each_round_of_a_loop_draws(seeded: bool, tmp_path: Path) -> None:
    seed = 3 if seeded else -1

    def looped(x: Any) -> Any:
        def body(i: Any, rows: Any) -> Any:
            row = mb.random_normal(shape=[1, 4], seed=seed)
            return mb.add(x=i, y=1.0), mb.concat(values=[rows, row], axis=0)

        def going_on(i: Any, rows: Any) -> Any:
            return mb.squeeze(x=mb.less(x=i, y=5.0))

        return mb.while_loop(_cond=going_on, _body=body, loop_vars=(x, mb.fill(shape=[1, 4])))[1]

    for model in arms(build(tmp_path, looped, {"x": (1,)})):
        feeds = {"x": np.zeros(1, np.float32)}
        one, two = (next(iter(model.predict(feeds).values()))[1:] for _ in range(2))
        assert one.shape == (5, 4)
        assert len(np.unique(one)) == (4 if seeded else 20)
        assert (one == two).all() if seeded else (one != two).all()


@needs_torch
@pytest.mark.torch
def test_a_stateful_step_draws(tmp_path: Path) -> None:
    import torch

    class Walk(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("place", torch.zeros(3, dtype=torch.float16))

        def forward(self, x: Any) -> Any:
            self.place.add_(torch.rand_like(x) + x)
            return self.place * 1

    x = torch.zeros(3)
    traced = torch.jit.trace(Walk().eval(), (x,), check_trace=False)
    package = save(tmp_path, traced, [state("place", 3)], inputs=[tensor("x", 3)])
    for model in arms(package):
        memory = model.make_state()
        first, second = (
            next(iter(model.predict({"x": x.numpy()}, state=memory).values())) for _ in range(2)
        )
        assert (second >= first).all()
        assert (second != 2 * first).any()


def test_an_exported_file_draws_by_itself(tmp_path: Path) -> None:
    def noisy(x: Any) -> Any:
        return x + cl.ops.random_normal([2000]), x + cl.ops.random_normal([2000], seed=6)

    model = cl.compile(noisy, x=cl.spec(2000))
    path = model.export_onnx(tmp_path / "noisy.onnx")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["x"]
    feeds = {"x": np.zeros(2000, np.float32)}
    (one, seeded), (two, again) = session.run(None, feeds), session.run(None, feeds)
    assert (one != two).mean() > 0.99
    np.testing.assert_array_equal(seeded, again)
    np.testing.assert_allclose(seeded, model.predict(feeds)["output_1"], atol=1e-6)
    assert abs(one.mean()) < 0.15
    assert abs(one.std() - 1) < 0.1


def test_profiling_a_random_program_works() -> None:
    model = cl.compile(lambda x: x + cl.ops.random_normal([64, 64]), x=cl.spec(64, 64))
    recording = cl.profile(model, {"x": np.zeros((64, 64), np.float32)}, runs=3)
    assert "random_normal" in {span.op for run in recording.runs for span in run.spans}


def test_impossible_categories_are_never_drawn_and_no_distribution_is_not_a_number() -> None:
    rows = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [1, -1, 0, 0], [np.inf, 1, 0, 0]], np.float32)
    drawn = [
        cl.compile(
            lambda x: cl.ops.random_categorical(x, mode="probs", size=200),
            x=cl.spec(4, 4),
            engine=engine,
        ).predict({"x": rows})["output"]
        for engine in ARMS
    ]
    for got in drawn:
        assert (got[0] == 1).all()
        assert np.isnan(got[1:3]).all()
        assert (got[3] == 0).all()


def test_mixing_is_a_permutation() -> None:
    numbers = draws.mixed(np.arange(1 << 16, dtype=np.int64))
    assert len(np.unique(numbers)) == 1 << 16
    assert numbers.max() <= draws.WORD
    assert int(draws.mixed(12345)) == draws.mixed(np.array([12345]))[0]


if HAS_TORCH:
    import torch

    # Drawn from x [400, 3]: what comes out, its mean and its standard deviation.
    TORCH_NETS: dict[str, tuple[Any, float, float]] = {
        "randn_like": (lambda x: torch.randn_like(x) + 0 * x, 0.0, 1.0),
        "rand_like": (lambda x: torch.rand_like(x) + 0 * x, 0.5, 1 / np.sqrt(12)),
        "randn": (lambda x: torch.randn(400, 3) + 0 * x, 0.0, 1.0),
        "rand": (lambda x: torch.rand(400, 3) + 0 * x, 0.5, 1 / np.sqrt(12)),
        "randint": (lambda x: torch.randint(2, 6, (400, 3)) + 0 * x, 3.5, np.sqrt(1.25)),
        "multinomial": (
            lambda x: torch.multinomial((0 * x).exp(), 3, replacement=True) + 0 * x,
            1.0,
            np.sqrt(2 / 3),
        ),
    }
else:
    TORCH_NETS = {"(no PyTorch)": (None, 0.0, 0.0)}


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18"])
@pytest.mark.parametrize("name", TORCH_NETS)
def test_a_converted_network_draws_as_pytorch_does(name: str, target: str, tmp_path: Path) -> None:
    from tests.support.torch_nets import Fn

    function, mean, deviation = TORCH_NETS[name]
    x = torch.zeros(400, 3)
    with quiet():
        convert(
            torch.jit.trace(Fn(function).eval(), (x,), check_trace=False),
            inputs=[ct.TensorType("x", x.shape)],
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, target),
            skip_model_load=True,
        ).save(str(tmp_path / "net.mlpackage"))
    for model in arms(tmp_path / "net.mlpackage"):
        one, two = (next(iter(model.predict({"x": x.numpy()}).values())) for _ in range(2))
        assert one.shape == (400, 3)
        assert (one != two).any()
        numbers = np.concatenate([one, two]).astype(np.float64)
        assert abs(numbers.mean() - mean) < 6.5 * deviation / np.sqrt(numbers.size)
        assert abs(numbers.std() / deviation - 1) < 0.15


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_branch_draws(sign: float, tmp_path: Path) -> None:
    def branching(x: Any) -> Any:
        total = mb.reduce_sum(x=x, axes=[0], keep_dims=False)
        return mb.cond(
            pred=mb.greater(x=total, y=0.0),
            _true_fn=lambda: mb.add(x=x, y=mb.random_uniform(shape=[4], low=1.0, high=2.0)),
            _false_fn=lambda: mb.add(x=x, y=mb.random_uniform(shape=[4], low=5.0, high=6.0)),
        )

    feeds = {"x": np.full(4, sign, np.float32)}
    for model in arms(build(tmp_path, branching, {"x": (4,)})):
        one, two = (next(iter(model.predict(feeds).values())) - sign for _ in range(2))
        low = 1 if sign > 0 else 5
        assert ((one >= low) & (one <= low + 1)).all()
        assert (one != two).all()


def test_threads_that_share_a_draw_see_the_same_numbers() -> None:
    t = cl.ops.random_normal([64])
    many = [t * float(k) for k in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda tensor: tensor.numpy(), many))
    for k, numbers in enumerate(drawn, 1):
        np.testing.assert_allclose(numbers / k, drawn[0], rtol=1e-5)
