"""Two inverse problems with real and complex unknowns: what was measured, the misfit, and its gradient by hand.

Functions and operators of the Python array API only, so that the arrays may be NumPy's, CuPy's or anyone else's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

Array = Any


def blur(x: Array, radius: int = 6, width: float = 2.0) -> Array:
    """A Gaussian blur in both directions, by shifts and sums; what leaves on one side comes in on the other.

    It is its own adjoint: the weights are symmetric.
    """
    xp = array_namespace(x)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2)
    for axis in (0, 1):
        shifted = [
            float(weight) * xp.roll(x, shift - radius, axis=axis)
            for shift, weight in enumerate(weights / np.sum(weights))
        ]
        x = sum(shifted[1:], start=shifted[0])
    return x


class Deblurring:
    """An image from its blurred, noisy picture: squared misfit, and the image's total variation times a weight.

    Total variation (Rudin, Osher & Fatemi 1992) is the sum of the lengths of the image's gradient, here of
    ``sqrt(dx**2 + dy**2 + smooth**2)``, which has a slope everywhere.
    """

    def __init__(self, picture: Array, weight: float = 3e-4, smooth: float = 1e-2) -> None:
        self.picture, self.weight, self.smooth = picture, weight, smooth

    @classmethod
    def measured(cls, image: np.ndarray, rng: np.random.Generator, noise: float = 0.01) -> np.ndarray:
        """What a camera out of focus would see of the image: blurred, with noise of this standard deviation."""
        seen: np.ndarray = (blur(image) + noise * rng.normal(size=image.shape)).astype(np.float32)
        return seen

    def start(self) -> Array:
        """A copy of the picture."""
        return array_namespace(self.picture).asarray(self.picture, copy=True)

    def _slopes(self, x: Array) -> tuple[Array, Array, Array]:
        xp = array_namespace(x)
        down, right = xp.roll(x, -1, axis=0) - x, xp.roll(x, -1, axis=1) - x
        return down, right, xp.sqrt(down * down + right * right + self.smooth**2)

    def loss(self, x: Array) -> float:
        """What is to become small."""
        xp = array_namespace(x)
        misfit = blur(x) - self.picture
        return float(xp.sum(misfit * misfit) / 2 + self.weight * xp.sum(self._slopes(x)[2]))

    def gradient(self, x: Array) -> Array:
        """Of the loss, by the image."""
        xp = array_namespace(x)
        down, right, length = self._slopes(x)
        down, right = down / length, right / length
        divergence = (down - xp.roll(down, 1, axis=0)) + (right - xp.roll(right, 1, axis=1))
        return blur(blur(x) - self.picture) - self.weight * divergence


def dft(x: Array) -> Array:
    """The unitary discrete Fourier transform of the first axis, whose length is a power of 2.

    CuPy has ``cupy.fft``. These lines need nothing but sums, products and ``concat``, and so also run where there is
    no cuFFT.
    """
    xp = array_namespace(x)
    n = x.shape[0]
    x = xp.reshape(x, (1, *x.shape)) * n**-0.5
    while x.shape[0] < n:  # rows: frequencies so far; columns: transforms still to be merged
        rows, half = x.shape[0], x.shape[1] // 2
        turn = xp.asarray(np.exp(-1j * np.pi * np.arange(rows) / rows), dtype=x.dtype)
        turned = xp.reshape(turn, (rows, *[1] * (x.ndim - 1))) * x[:, half:]
        x = xp.concat([x[:, :half] + turned, x[:, :half] - turned])
    return x[:, 0]


def dft2(x: Array) -> Array:
    """The unitary transform of the last two axes of three."""
    xp = array_namespace(x)
    x = dft(xp.permute_dims(x, (1, 2, 0)))  # rows first
    return xp.permute_dims(dft(xp.permute_dims(x, (1, 0, 2))), (2, 1, 0))


class PhaseRetrieval:
    """A complex field from the intensities of its diffraction patterns behind known masks, all phases lost.

    Coded diffraction patterns (Candès, Li & Soltanolkotabi 2015): the field times a mask, Fourier-transformed by the
    way to the camera. The misfit is that of the amplitudes; the field is found up to one phase for all of it.
    """

    def __init__(self, masks: Array, amplitudes: Array) -> None:
        self.masks, self.amplitudes = masks, amplitudes

    @classmethod
    def measured(
        cls, field: np.ndarray, rng: np.random.Generator, count: int = 6, noise: float = 0.01
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks of random quarter turns, and the noisy amplitudes behind them."""
        masks = (1j ** rng.integers(4, size=(count, *field.shape))).astype(np.complex64)
        seen = np.abs(dft2(masks * field))
        return masks, np.maximum(seen + noise * rng.normal(size=seen.shape), 0).astype(np.float32)

    def start(self) -> Array:
        """A field of ones."""
        xp = array_namespace(self.masks)
        return xp.ones(self.masks.shape[1:], dtype=xp.complex64)

    def loss(self, x: Array) -> float:
        """What is to become small."""
        xp = array_namespace(x)
        misfit = xp.abs(dft2(self.masks * x)) - self.amplitudes
        return float(xp.sum(misfit * misfit) / (2 * len(self.masks)))

    def gradient(self, x: Array) -> Array:
        """Of the loss, by the field: its real part by the real, its imaginary part by the imaginary."""
        xp = array_namespace(x)
        seen = dft2(self.masks * x)
        size = xp.abs(seen)
        misfit = seen - self.amplitudes * seen / xp.where(size > 0, size, xp.ones_like(size))
        back = xp.conj(dft2(xp.conj(misfit)))  # the adjoint of a unitary transform undoes it
        return xp.sum(xp.conj(self.masks) * back, axis=0) / len(self.masks)
