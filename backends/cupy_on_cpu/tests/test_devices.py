"""Two devices, streams, events, threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cupy as cp
import numpy as np
import pytest

from cupy_on_cpu import recording, settings

runtime = cp.cuda.runtime
two = pytest.mark.skipif(settings.DEVICES < 2, reason="needs CUPY_ON_CPU_DEVICES=2")


def test_it_does_not_pass_for_a_gpu() -> None:
    assert runtime.getDeviceProperties(0)["name"] == b"CuPy on the CPU (no GPU)"
    assert cp.cuda.Device(0).compute_capability == "90"


def test_there_is_no_device_beyond_the_last() -> None:
    with pytest.raises(runtime.CUDARuntimeError, match="InvalidDevice"):
        cp.cuda.Device(settings.DEVICES).use()
    with pytest.raises(runtime.CUDARuntimeError, match="InvalidDevice"):
        runtime.getDeviceProperties(-1)


@two
def test_arrays_are_on_the_current_device() -> None:
    with cp.cuda.Device(1):
        x = cp.ones(3)
        with recording() as seen:
            x + 1
    assert x.device == cp.cuda.Device(1)
    assert runtime.pointerGetAttributes(x.data.ptr).device == 1
    assert [launch.device for launch in seen.launches] == [1]
    assert cp.zeros(1).device.id == 0


@two
def test_a_kernel_reads_no_other_device() -> None:
    with cp.cuda.Device(1):
        x = cp.ones(3)
    with pytest.raises(ValueError, match="Peer access is unavailable"):
        x + 1
    assert runtime.deviceCanAccessPeer(0, 1) == 0


@two
def test_copies_between_devices() -> None:
    with cp.cuda.Device(1):
        x = cp.arange(4)
    y = cp.asarray(x)
    assert (y if y.device.id == 0 else x.copy()).device.id == 0
    assert x.copy().get().tolist() == [0, 1, 2, 3]


def test_each_thread_has_its_device() -> None:
    found = []

    def other() -> None:
        cp.cuda.Device(settings.DEVICES - 1).use()
        found.append(runtime.getDevice())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert (found, runtime.getDevice()) == ([settings.DEVICES - 1], 0)


def test_threads_launch_and_compile() -> None:
    def total(n: int) -> Any:
        with cp.cuda.Stream(non_blocking=True) as stream:
            kernel = cp.ElementwiseKernel("float64 x", "float64 y", f"y = x * {n % 4 + 1}", f"times_{n % 4 + 1}")
            result = kernel(cp.arange(1000.0)).sum()
            stream.synchronize()
        return float(result)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(total, range(32))) == [499500.0 * (n % 4 + 1) for n in range(32)]


def test_launches_are_on_the_current_stream() -> None:
    x = cp.ones(3)
    with cp.cuda.Stream() as stream, recording() as seen:
        x + x
        stream.synchronize()
    x + x
    assert [launch.stream for launch in seen.launches] == [stream.ptr]
    assert seen.synchronizations == ["streamSynchronize"]


@two
def test_a_stream_of_another_device_is_refused() -> None:
    x = cp.ones(3)
    with cp.cuda.Device(1):
        stream = cp.cuda.Stream()
    kernel = cp.RawKernel('extern "C" __global__ void nothing(double *x) {}', "nothing")
    with pytest.raises(runtime.CUDARuntimeError, match="InvalidResourceHandle"):
        kernel((1,), (1,), (x,), stream=stream)


def test_a_stream_that_is_gone_is_refused() -> None:
    stream = runtime.streamCreate()
    runtime.streamSynchronize(stream)
    runtime.streamDestroy(stream)
    with pytest.raises(runtime.CUDARuntimeError, match="InvalidResourceHandle"):
        runtime.streamSynchronize(stream)


def test_streams_have_flags_and_priorities() -> None:
    stream = cp.cuda.Stream(non_blocking=True, priority=-1)
    assert (runtime.streamGetFlags(stream.ptr), runtime.streamGetPriority(stream.ptr)) == (1, -1)
    assert stream.done


def test_events() -> None:
    start, end = cp.cuda.Event(), cp.cuda.Event()
    with pytest.raises(runtime.CUDARuntimeError, match="InvalidResourceHandle"):
        cp.cuda.get_elapsed_time(start, end)
    start.record()
    cp.ones(1000).sum()
    end.record()
    cp.cuda.get_current_stream().wait_event(end)
    with recording() as seen:
        end.synchronize()
    assert seen.synchronizations == ["eventSynchronize"]
    assert end.done and 0 < cp.cuda.get_elapsed_time(start, end) < 60_000


def test_host_functions_of_a_stream() -> None:
    called: list[Any] = []
    stream = cp.cuda.Stream(non_blocking=True)
    stream.launch_host_func(called.append, "once")
    stream.synchronize()
    assert called == ["once"]


def test_waiting_for_the_device_is_recorded() -> None:
    with recording() as seen:
        cp.cuda.Device().synchronize()
        float(np.float32(cp.ones(3).sum().get()))
    assert seen.synchronizations[0] == "deviceSynchronize"
    assert len(seen.synchronizations) > 1
