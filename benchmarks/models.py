"""The parameters of whole models, as lists of shapes: leaf by leaf, in the order in which each library lists them."""

from __future__ import annotations

Shape = tuple[int, ...]


def linear(out: int, into: int) -> list[Shape]:
    """A matrix and a bias, of PyTorch's layout."""
    return [(out, into), (out,)]


def norm(features: int) -> list[Shape]:
    """A weight and a bias: of a LayerNorm or a BatchNorm, whose running statistics are no parameters."""
    return [(features,), (features,)]


def mlp() -> list[Shape]:
    """LeNet-300-100, the fully connected network of LeCun et al. 1998, for 28x28 digits."""
    return linear(300, 28 * 28) + linear(100, 300) + linear(10, 100)


def vit_tiny() -> list[Shape]:
    """ViT-Tiny/16 for 224x224 images: timm's vit_tiny_patch16_224 (DeiT-Ti of Touvron et al. 2021)."""
    width, depth, patch, classes = 192, 12, 16, 1000  # its 3 heads share one matrix
    tokens = 1 + (224 // patch) ** 2
    stem: list[Shape] = [(1, 1, width), (1, tokens, width), (width, 3, patch, patch), (width,)]
    attention = norm(width) + linear(3 * width, width) + linear(width, width)
    block = attention + norm(width) + linear(4 * width, width) + linear(width, 4 * width)
    return stem + depth * block + norm(width) + linear(classes, width)


def resnet_50() -> list[Shape]:
    """ResNet-50 (He et al. 2015, table 1): torchvision's resnet50; convolutions have no bias."""

    def conv(out: int, into: int, kernel: int) -> list[Shape]:
        return [(out, into, kernel, kernel), *norm(out)]

    shapes, into = conv(64, 3, 7), 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += conv(width, into, 1) + conv(width, width, 3) + conv(4 * width, width, 1)
            if block == 0:  # the shortcut changes the number of channels
                shapes += conv(4 * width, into, 1)
            into = 4 * width
    return shapes + linear(1000, into)


def gpt_2() -> list[Shape]:
    """GPT-2 small (Radford et al. 2019): transformers' GPT2LMHeadModel("gpt2"), whose head is the embedding, tied.

    Its matrices have the layout of TensorFlow, input first.
    """
    width, depth, vocabulary, context = 768, 12, 50257, 1024

    def conv1d(into: int, out: int) -> list[Shape]:
        return [(into, out), (out,)]

    attention = norm(width) + conv1d(width, 3 * width) + conv1d(width, width)
    block = attention + norm(width) + conv1d(width, 4 * width) + conv1d(4 * width, width)
    return [(vocabulary, width), (context, width), *(depth * block), *norm(width)]


MODELS: dict[str, tuple[Shape, ...]] = {
    "MLP": tuple(mlp()),
    "ViT-Tiny": tuple(vit_tiny()),
    "ResNet-50": tuple(resnet_50()),
    "GPT-2": tuple(gpt_2()),
}
