"""CUDA graphs: what is captured runs at each launch of the graph, with the arguments of its capture, and not before."""

from __future__ import annotations

import cupy as cp
import numpy as np
import pytest

from cupy_on_cpu import recording


def test_what_is_captured_runs_whenever_its_graph_is_launched() -> None:
    x, y = cp.arange(4.0), cp.zeros(4)
    x + x  # compiled
    with cp.cuda.Stream(non_blocking=True) as stream, recording() as seen:
        stream.begin_capture()
        assert stream.is_capturing()
        z = x + x
        cp.cuda.runtime.memcpyAsync(y.data.ptr, z.data.ptr, y.nbytes, 3, stream.ptr)
        z.data.memset_async(0, z.nbytes, stream)
        graph = stream.end_capture()
        assert not stream.is_capturing()
        assert (seen.launches, seen.transfers) == ([], []) and not y.get(stream=stream).any()
        for k in (1, 2):
            x *= k
            graph.launch(stream)
            stream.synchronize()
            assert (y.get(stream=stream) == 2 * k * np.arange(4.0)).all() and not z.get(stream=stream).any()
    added = [launch for launch in seen.launches if launch.kernel.startswith("cupy_add")]
    assert len(added) == 2 and added[0] == added[1] and added[0].stream == stream.ptr
    assert [each.kind for each in seen.transfers].count("device to device") == 2


def test_waiting_is_refused_while_a_stream_is_captured() -> None:
    with cp.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        x = cp.zeros(3)
        for wait in (
            stream.synchronize,
            cp.cuda.Device().synchronize,
            cp.cuda.Event().synchronize,
            lambda: cp.cuda.runtime.memcpy(x.data.ptr, x.data.ptr, 8, 3),
        ):
            with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="StreamCaptureUnsupported"):
                wait()
        stream.end_capture()
    with pytest.raises(RuntimeError, match="default"):
        cp.cuda.Stream.null.begin_capture()
