"""The networks of the shipped problems.

Each splits as ``forward(x) = tail(stem(x))`` where ``stem`` is exactly affine in its own parameters
(``stem_parameter_names``): along a ray θ + c·δ it is ``stem(x; θ) + c·stem(x; δ)``, so that a sweep
computes it twice instead of once per coefficient. The loss is a deterministic function of the
parameters: no dropout, no batch normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from volume_lib.errors import InputError


class MLP(nn.Module):
    """A fully connected network with ReLU between its layers; inputs (N, ...) are flattened.

    Returns (N, output_dim). Without hidden layers it is a linear map.
    """

    stem_parameter_names = ("layers.0.weight", "layers.0.bias")

    def __init__(self, input_dim: int, hidden_dims: Sequence[int], output_dim: int):
        super().__init__()
        dims = [input_dim, *_positive("hidden_dims", hidden_dims), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def stem(self, x: Tensor) -> Tensor:
        return self.layers[0](x.flatten(1))

    def tail(self, h: Tensor) -> Tensor:
        """(N, output_dim) from the stem's (N, …), which is overwritten."""
        for layer in self.layers[1:]:
            h = layer(F.relu(h, inplace=True))
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.stem(x))

    def stacked_forward(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(M, N, output_dim) outputs of M networks of this shape for their inputs (M, N, ...).

        ``parameters`` are stacked by name, as ``training.stacks.as_operand`` turns them. What
        ``vmap`` of :meth:`forward` computes, in one operation for each layer.
        """
        return self.stacked_tail(parameters, self._stacked_layer(parameters, 0, x.flatten(2)))

    def stacked_tail(self, parameters: Mapping[str, Tensor], h: Tensor) -> Tensor:
        """:meth:`tail` of M networks for their stems ``h`` (M, N, …), which are overwritten."""
        for i in range(1, len(self.layers)):
            h = self._stacked_layer(parameters, i, F.relu(h, inplace=True))
        return h

    @staticmethod
    def _stacked_layer(parameters: Mapping[str, Tensor], i: int, h: Tensor) -> Tensor:
        weight, bias = parameters[f"layers.{i}.weight"], parameters[f"layers.{i}.bias"]
        if weight.shape[-1] == 1:  # products of matrices with a vector are slow in batches
            return (h * weight.mT).sum(-1, keepdim=True) + bias
        return torch.baddbmm(bias, h, weight)


class CNN(nn.Module):
    """3×3 convolutions, each with ReLU and 2×2 max-pooling, then linear layers with ReLU between them.

    Takes images (N, in_channels, image_size, image_size), returns (N, output_dim). ``hidden_dims`` are the
    widths of the linear layers before the last one (a number: one layer); without any, that one reads the
    pooled images.
    """

    stem_parameter_names = ("convolutions.0.weight", "convolutions.0.bias")

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        channels: Sequence[int],
        hidden_dims: Sequence[int] | int,
        output_dim: int,
    ):
        super().__init__()
        dims = [in_channels, *_positive("channels", channels)]
        size = image_size // 2 ** (len(dims) - 1)
        if len(dims) == 1 or size == 0:
            raise InputError(
                f"model: channels {list(channels)}: a {image_size}-pixel image takes 1 to "
                f"{image_size.bit_length() - 1} convolutions with pooling"
            )
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, kernel_size=3, padding=1) for a, b in pairwise(dims)
        )
        hidden_dims = [hidden_dims] if isinstance(hidden_dims, int) else hidden_dims
        widths = [dims[-1] * size * size, *_positive("hidden_dims", hidden_dims), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def stem(self, x: Tensor) -> Tensor:
        return self.convolutions[0](x)

    def tail(self, h: Tensor) -> Tensor:
        # relu and max commute; pooling first leaves relu a quarter of the work
        h = F.relu(F.max_pool2d(h, 2), inplace=True)
        for convolution in self.convolutions[1:]:
            h = F.relu(F.max_pool2d(convolution(h), 2), inplace=True)
        h = self.layers[0](h.flatten(1))
        for layer in self.layers[1:]:
            h = layer(F.relu(h, inplace=True))
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.stem(x))


class Block(nn.Module):
    """Causal self-attention, then a two-layer network, each added to what it reads through a layer norm."""

    def __init__(self, width: int, heads: int, bias: bool = True):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, bias=bias)
        self.query_key_value = nn.Linear(width, 3 * width, bias=bias)
        self.projection = nn.Linear(width, width, bias=bias)
        self.expansion_norm = nn.LayerNorm(width, bias=bias)
        self.expansion = nn.Linear(width, 4 * width, bias=bias)
        self.contraction = nn.Linear(4 * width, width, bias=bias)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.projection(self._attention(self.attention_norm(h)))
        return h + self.contraction(F.gelu(self.expansion(self.expansion_norm(h))))

    def _attention(self, h: Tensor) -> Tensor:
        # written out: the fused kernels have no forward derivative, and are not batched over parameters
        count, length, width = h.shape
        q, k, v = (
            part.view(count, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.query_key_value(h).chunk(3, dim=-1)
        )
        scores = q @ k.mT * (width // self.heads) ** -0.5
        future = torch.ones(length, length, dtype=torch.bool, device=h.device).triu(1)
        shares = scores.masked_fill(future, float("-inf")).softmax(-1)
        return (shares @ v).transpose(1, 2).reshape(count, length, width)


class GPT(nn.Module):
    """A transformer that predicts the next token; the output layer is the token embedding, transposed.

    Takes tokens (N, length ≤ context), returns logits (N, length, vocabulary). The tied weights are one
    parameter: they are counted once, and a perturbation moves both uses alike. ``bias=False``: no layer
    has biases, norms included.
    """

    stem_parameter_names = ("token_embedding.weight", "position_embedding.weight")
    tied_parameter_names = ("token_embedding.weight",)
    """Parameters of the stem that the tail uses too."""

    def __init__(self, vocabulary: int, context: int, width: int, heads: int, layers: int, bias: bool = True):
        super().__init__()
        _positive("vocabulary, context, width, heads, layers", [vocabulary, context, width, heads, layers])
        if width % heads:
            raise InputError(f"model: width {width} must be a multiple of heads {heads}")
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.position_embedding = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, bias) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=bias)
        # the embeddings double as output weights, where PyTorch's unit variance would be far too large
        for embedding in (self.token_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=0.02)

    def stem(self, x: Tensor) -> Tensor:
        positions = torch.arange(x.shape[-1], device=x.device)
        return self.token_embedding(x) + self.position_embedding(positions)

    def tail(self, h: Tensor) -> Tensor:
        for block in self.blocks:
            h = block(h)
        return F.linear(self.norm(h), self.token_embedding.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.stem(x))


def _positive(name: str, sizes: Sequence[int]) -> list[int]:
    if isinstance(sizes, int) or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise InputError(f"model: {name} must be a list of positive whole numbers, not {sizes!r}")
    return list(sizes)
