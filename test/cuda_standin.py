"""CUDA on the host, behind the names of `cuda.bindings.runtime`: device memory is numpy's, streams run late.

What is put on a stream runs when the stream is waited for, as on a busy GPU; so code that changes pinned memory too
early, or reads results too early, is caught. Every copy is checked against what is allocated.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class cudaError_t(IntEnum):  # noqa: N801
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorStreamCaptureUnsupported = 900


OK = cudaError_t.cudaSuccess


class Cuda:
    """One device; `module()` is what to import instead of the binding."""

    def __init__(
        self, memory: int = 2**34, devices: int = 1, driver: bool = True, name: str = "Test GPU"
    ) -> None:
        self.free_memory, self.devices, self.driver, self.gpu = memory, devices, driver, name
        self.device_memory: dict[int, np.ndarray] = {}
        self.host_memory: dict[int, np.ndarray] = {}
        self.waiting: dict[int, list[Callable[[], None]]] = {}
        self.recording: dict[int, list[Callable[[], None]]] = {}
        self.recorded: dict[int, list[Callable[[], None]]] = {}
        self.records = True
        self.allocations = 0
        """Allocations so far, device and pinned."""
        self.bytes_up = self.bytes_down = 0
        """Copied to and from the device so far."""
        self.launches = 0
        """Recorded launches so far."""
        self._lock = threading.RLock()
        self._number = 0

    def module(self) -> ModuleType:
        names = [name for name in dir(self) if name.startswith("cuda")]
        module = ModuleType("cuda.bindings.runtime")
        for name in names:
            setattr(module, name, getattr(self, name))
        module.cudaError_t = cudaError_t  # type: ignore[attr-defined]
        module.cudaMemcpyKind = SimpleNamespace(  # type: ignore[attr-defined]
            cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3
        )
        mode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        module.cudaStreamCaptureMode = mode  # type: ignore[attr-defined]
        return module

    def put(self, stream: int, work: Callable[[], None]) -> None:
        """Put work on a stream, or into what is being recorded of it."""
        with self._lock:
            (self.recording if stream in self.recording else self.waiting)[stream].append(work)

    def on_device(self, address: int, size: int) -> bool:
        """Whether all of this is device memory of one allocation."""
        return _inside(self.device_memory, address, size)

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        if not self.driver:
            return cudaError_t.cudaErrorInsufficientDriver, None
        return (OK, self.devices) if self.devices else (cudaError_t.cudaErrorNoDevice, None)

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return OK, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:
        return OK, SimpleNamespace(name=self.gpu.encode() + b"\0\0", major=8, minor=9)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        if self.recording:
            return cudaError_t.cudaErrorStreamCaptureUnsupported, None
        if size > self.free_memory:
            return cudaError_t.cudaErrorMemoryAllocation, None
        self.free_memory -= size
        return OK, self._allocate(self.device_memory, size)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        return OK, self._allocate(self.host_memory, size)

    def _allocate(self, memory: dict[int, np.ndarray], size: int) -> int:
        array = np.full(size, 0xAB, dtype=np.uint8)
        with self._lock:
            memory[array.ctypes.data] = array
            self.allocations += 1
        return array.ctypes.data

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        self.free_memory += self.device_memory.pop(address).size
        return (OK,)

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        del self.host_memory[address]
        return (OK,)

    def cudaMemset(self, address: int, value: int, size: int) -> tuple[Any, ...]:
        assert self.on_device(address, size)
        ctypes.memset(address, value, size)
        return (OK,)

    def cudaMemsetAsync(self, address: int, value: int, size: int, stream: int) -> tuple[Any, ...]:
        self.put(stream, lambda: self.cudaMemset(address, value, size) and None)
        return (OK,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[Any, ...]:
        to_device, from_device = kind in (1, 3), kind in (2, 3)
        if to_device != self.on_device(target, size) or from_device != self.on_device(source, size):
            return (cudaError_t.cudaErrorInvalidValue,)
        self.bytes_up += size * (kind == 1)
        self.bytes_down += size * (kind == 2)
        if kind == 3 and abs(target - source) < size:
            return (cudaError_t.cudaErrorInvalidValue,)
        if kind == 1 and not _inside(self.host_memory, source, size):
            staged = ctypes.string_at(source, size)  # pageable memory is read at once
            self.put(stream, lambda: ctypes.memmove(target, staged, size) and None)
            return (OK,)
        self.put(stream, lambda: ctypes.memmove(target, source, size) and None)
        if kind == 2 and not _inside(self.host_memory, target, size):
            self.cudaStreamSynchronize(stream)  # and pageable memory is written at once
        return (OK,)

    def cudaStreamCreate(self) -> tuple[Any, ...]:
        stream = self._next()
        self.waiting[stream] = []
        return OK, stream

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        del self.waiting[stream]
        return (OK,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        if stream in self.recording:
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        with self._lock:
            work, self.waiting[stream] = self.waiting[stream], []
        for one in work:
            one()
        return (OK,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Any, ...]:
        if not self.records:
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        self.recording[stream] = []
        return (OK,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        graph = self._next()
        self.recorded[graph] = self.recording.pop(stream)
        return OK, graph

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:
        recorded = self._next()
        self.recorded[recorded] = list(self.recorded[graph])
        return OK, recorded

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:
        del self.recorded[graph]
        return (OK,)

    def cudaGraphExecDestroy(self, recorded: int) -> tuple[Any, ...]:
        del self.recorded[recorded]
        return (OK,)

    def cudaGraphLaunch(self, recorded: int, stream: int) -> tuple[Any, ...]:
        self.launches += 1
        for work in self.recorded[recorded]:
            self.put(stream, work)
        return (OK,)

    def _next(self) -> int:
        with self._lock:
            self._number += 1
            return self._number


def _inside(memory: dict[int, np.ndarray], address: int, size: int) -> bool:
    return any(
        start <= address and address + size <= start + array.size for start, array in list(memory.items())
    )
