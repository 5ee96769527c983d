"""The weights from which nano's autoencoder starts: a linear codec that already works, inside the nonlinear network.

Random weights spend their first hundreds of steps on learning that a red area is red, because GroupNorm takes away
exactly that: the level of a channel. So the network starts as follows, and learns edges and textures from there:

- residual branches add nothing yet;
- the encoder's strided convolutions form Haar coefficients, the last one the principal components of 8×8 patches;
- before the final GroupNorm + SiLU every group holds a signal, its negative and a constant. The constant rules the
  group's mean and variance, so the norm keeps levels, and silu(z) - silu(-z) = z makes the pair linear;
- the first four components are the latents; the decoder interpolates them and maps them to colours by least squares.

The encoder stays so: its latents are smooth, which a UNet learns fast, they do not change while the decoder is
trained (so that both can be trained at once), and `latents` computes them a thousand times faster than the network.
The decoder's channels that this leaves free start as random orthogonal filters, and all of it is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

_ENCODER_ANCHOR = 32.0
_DECODER_ANCHOR = 8.0
"""The constant of a group, in standard deviations of its signal: the larger, the more linear, and the slower to train."""
_LATENTS = 4
_LOGVAR_START = -7.0
_FREE_SCALE = 0.05


def start_weights(vae: AutoencoderKL, images: torch.Tensor, seed: int) -> None:
    """Turn a fresh autoencoder into the linear codec for pictures like ``images`` [b, 3, h, w] in -1..1.

    Needs three channels a group (96 channels), four levels and one width at all of them.
    """
    import torch

    torch.manual_seed(seed)
    _neutral(vae)
    with torch.no_grad():
        _start_encoder(vae, images)
        _start_decoder(vae, images)


def latents(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """What the encoder gives for images [b, 3, h, w] in -1..1: the posterior's mean, [b, 4, h/8, w/8].

    Takes only the channels that matter along the linear path; the network differs by the small rest that its norm
    does not keep (under 2 % of a standard deviation).
    """
    import torch
    from torch.nn.functional import conv2d

    first, second, third = (block.downsamplers[0].conv for block in vae.encoder.down_blocks if block.downsamplers)
    with torch.no_grad():
        features = conv2d(images, first.weight[:12, :3, :2, :2], stride=2)
        features = conv2d(features, second.weight[:48, :12, :2, :2], stride=2)
        signals = slice(0, 3 * _LATENTS, 3)
        features = conv2d(features, third.weight[signals, :48, :2, :2], third.bias[signals], stride=2)
        return conv2d(features, vae.quant_conv.weight[:_LATENTS, :_LATENTS], vae.quant_conv.bias[:_LATENTS])


def fold_latents(vae: AutoencoderKL, images: torch.Tensor, scale: float) -> None:
    """Give the latents mean 0 and standard deviation 1 / ``scale`` per channel on ``images``, folded into the 1×1 convolutions.

    The decoder gets what it got before.
    """
    import torch

    before = latents(vae, images).permute(1, 0, 2, 3).flatten(1)
    centre, gain = before.mean(1), 1 / (before.std(1) * scale)
    with torch.no_grad():
        quant, post = vae.quant_conv, vae.post_quant_conv
        quant.weight[:_LATENTS] *= gain.view(-1, 1, 1, 1)
        quant.bias[:_LATENTS] = (quant.bias[:_LATENTS] - centre) * gain
        quant.bias[_LATENTS:] += 2 * gain.log()
        post.bias += post.weight[:, :, 0, 0] @ centre
        post.weight /= gain.view(1, -1, 1, 1)


def _neutral(vae: AutoencoderKL) -> None:
    """Orthogonal convolutions, silent residual branches and attention, a narrow posterior, identity in between."""
    import torch
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D

    for module in vae.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.orthogonal_(module.weight)
            torch.nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            torch.nn.init.zeros_(module.conv2.weight)
        if isinstance(module, Attention):
            torch.nn.init.zeros_(module.to_out[0].weight)
            torch.nn.init.zeros_(module.to_out[0].bias)
    with torch.no_grad():
        vae.quant_conv.weight.copy_(torch.eye(2 * _LATENTS)[:, :, None, None])
        vae.quant_conv.weight[_LATENTS:] = 0
        vae.quant_conv.bias[_LATENTS:] = _LOGVAR_START
        vae.post_quant_conv.weight.copy_(torch.eye(_LATENTS)[:, :, None, None])


def _start_encoder(vae: AutoencoderKL, images: torch.Tensor) -> None:
    import torch

    encoder = vae.encoder
    _copy_channels(encoder.conv_in, 3)
    downs = [block.downsamplers[0].conv for block in encoder.down_blocks if block.downsamplers]
    _haar(downs[0], 3)
    _haar(downs[1], 12)
    features = torch.nn.functional.conv2d(images, downs[0].weight[:12, :3, :2, :2], stride=2)
    features = torch.nn.functional.conv2d(features, downs[1].weight[:48, :12, :2, :2], stride=2)
    blocks = torch.nn.functional.pixel_unshuffle(features, 2)
    vectors = blocks.permute(0, 2, 3, 1).reshape(-1, blocks.shape[1]).double()
    centre = vectors.mean(0)
    values, components = torch.linalg.eigh(torch.cov((vectors - centre).T))
    groups = downs[2].out_channels // 3
    best = torch.arange(len(values) - 1, len(values) - 1 - groups, -1)
    # weak components are not blown up to full strength: they are mostly noise
    whiten = (components[:, best] / (values[best] + 0.05 * values[best[0]] / groups).sqrt()).T
    kernel = torch.zeros_like(downs[2].weight[:groups])
    kernel[:, :48, :2, :2] = whiten.float().view(groups, 48, 2, 2)
    _paired(downs[2], kernel, -(whiten @ centre).float(), _ENCODER_ANCHOR)
    _let_pairs_through(encoder.conv_norm_out, _ENCODER_ANCHOR)
    torch.nn.init.zeros_(encoder.conv_out.weight)
    _difference(encoder.conv_out, _LATENTS)


def _start_decoder(vae: AutoencoderKL, images: torch.Tensor) -> None:
    import torch
    from torch.nn.functional import interpolate

    decoder = vae.decoder
    _copy_channels(decoder.conv_in, _LATENTS)
    ups = [block.upsamplers[0].conv for block in decoder.up_blocks if block.upsamplers]
    for conv in ups[:2]:
        _interpolate(conv, torch.eye(_LATENTS), _LATENTS)
    smooth = interpolate(latents(vae, images), size=images.shape[-2:], mode="bilinear").permute(0, 2, 3, 1).reshape(-1, _LATENTS)
    smooth = torch.cat([smooth, torch.ones(len(smooth), 1)], 1)
    colours = torch.linalg.lstsq(smooth, images.permute(0, 2, 3, 1).reshape(-1, 3)).solution
    groups = ups[2].out_channels // 3
    kernel = ups[2].weight[:groups].clone()
    kernel[:3] = 0
    kernel[:3, :_LATENTS] = _bilinear() * colours[:_LATENTS].T[:, :, None, None]
    bias = torch.zeros(groups)
    bias[:3] = colours[_LATENTS]
    _paired(ups[2], kernel, bias, _DECODER_ANCHOR)
    _let_pairs_through(decoder.conv_norm_out, _DECODER_ANCHOR)
    decoder.conv_out.weight.mul_(_FREE_SCALE)
    decoder.conv_out.weight[:, 2::3] = 0
    _difference(decoder.conv_out, 3)


def _copy_channels(conv: torch.nn.Conv2d, count: int) -> None:
    """The first outputs are the inputs."""
    conv.weight[:count] = 0
    for channel in range(count):
        conv.weight[channel, channel, 1, 1] = 1


def _haar(conv: torch.nn.Conv2d, count: int) -> None:
    """The first 4 * count outputs: of each of the first inputs mean and three differences of 2×2 pixels, energy kept."""
    import torch

    signs = torch.tensor([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]) / 2
    conv.weight[: 4 * count] = 0
    for channel in range(count):
        for band in range(4):
            conv.weight[band * count + channel, channel, :2, :2] = signs[band]


def _bilinear() -> torch.Tensor:
    """The kernel that makes bilinear interpolation of nearest-neighbour doubling: [3, 3]."""
    import torch

    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    return line[:, None] * line


def _interpolate(conv: torch.nn.Conv2d, mixing: torch.Tensor, count: int) -> None:
    conv.weight[:count] = 0
    conv.weight[:count, : mixing.shape[1]] = mixing[:, :, None, None] * _bilinear()


def _paired(conv: torch.nn.Conv2d, kernel: torch.Tensor, bias: torch.Tensor, anchor: float) -> None:
    """Outputs in groups of three: a signal, its negative, the anchor."""
    conv.weight[0::3], conv.weight[1::3], conv.weight[2::3] = kernel, -kernel, 0
    conv.bias[0::3], conv.bias[1::3], conv.bias[2::3] = bias, -bias, anchor


def _let_pairs_through(norm: torch.nn.GroupNorm, anchor: float) -> None:
    """Undo what the norm does to groups (s, -s, anchor) with s of variance 1: mean anchor/3, variance 2/3 + 2 anchor²/9."""
    norm.weight.fill_((2 / 3 + 2 * anchor**2 / 9) ** 0.5)
    norm.bias.fill_(anchor / 3)


def _difference(conv: torch.nn.Conv2d, count: int) -> None:
    """The first outputs are the first signals: silu(s) - silu(-s) = s."""
    for channel in range(count):
        conv.weight[channel, 3 * channel, 1, 1] = 1
        conv.weight[channel, 3 * channel + 1, 1, 1] = -1
