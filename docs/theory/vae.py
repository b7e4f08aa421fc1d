"""A variational autoencoder in its smallest form: it reconstructs pictures, then generates new ones from noise.

    python vae.py

The data are 8 x 8 pictures of one soft spot at a random place, so a picture is two numbers in disguise and
two latent numbers can hold it. Everything random comes from the generator that is passed in.
"""

import torch
from torch import Tensor, nn

from softac.equations.distributions import Gaussian
from softac.nets.layers import mlp

SIDE, LATENT = 8, 2
PIXEL_STD = 0.1  # the decoder's Gaussian has this standard deviation in each pixel


def pictures(n: int, generator: torch.Generator) -> Tensor:
    """`[n, 64]`: a spot with centre uniform on [1.5, 5.5]^2 and brightness 1."""
    centre = 1.5 + 4.0 * torch.rand(n, 2, 1, generator=generator)
    row, column = (-0.5 * ((torch.arange(SIDE) - centre) / 1.2).square()).exp().unbind(1)
    return (row[:, :, None] * column[:, None, :]).flatten(1)


class VAE(nn.Module):
    """An encoder x -> N(mean, std) over codes and a decoder code -> picture."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = mlp([SIDE**2, 64, 2 * LATENT], generator=generator)
        self.decoder = mlp([LATENT, 64, SIDE**2], generator=generator)

    def encode(self, x: Tensor) -> Gaussian:
        return Gaussian(*self.encoder(x).chunk(2, -1))

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """Reconstruction plus KL(N(mean, std) || N(0, I)), in nats, averaged over the batch `[B, 64]`."""
        code = self.encode(x)
        z, _ = code.rsample(noise)  # mean + std * noise: differentiable in mean and std
        reconstruction = (x - self.decoder(z)).square().sum(-1) / (2.0 * PIXEL_STD**2)
        kl = (0.5 * (code.mean.square() + (2.0 * code.log_std).exp() - 1.0) - code.log_std).sum(-1)
        return (reconstruction + kl).mean()

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decoder(self.encode(x).mode())

    @torch.no_grad()
    def generate(self, noise: Tensor) -> Tensor:
        """New pictures `[n, 64]` from standard normal `noise [n, 2]`; no encoder is involved."""
        return self.decoder(noise)


def train(generator: torch.Generator, steps: int = 600) -> VAE:
    model = VAE(generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        loss = model.loss(pictures(128, generator), torch.randn(128, LATENT, generator=generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def spot_error(images: Tensor) -> Tensor:
    """How far each picture `[n, 64]` is from the nearest possible spot: root mean square over pixels, `[n]`."""
    places = torch.linspace(1.0, 6.0, 51)
    profile = (-0.5 * ((torch.arange(SIDE) - places[:, None]) / 1.2).square()).exp()
    spots = (profile[:, None, :, None] * profile[None, :, None, :]).flatten(2).flatten(0, 1)
    return torch.cdist(images, spots).amin(-1) / SIDE


if __name__ == "__main__":
    torch.set_num_threads(1)  # the network is too small for more
    generator = torch.Generator().manual_seed(0)
    model = train(generator)
    unseen = pictures(1000, generator)
    rms = (model.reconstruct(unseen) - unseen).square().mean().sqrt()
    generated = model.generate(torch.randn(1000, LATENT, generator=generator))
    print(f"reconstruction of unseen pictures: {rms:.3f} root mean square error per pixel")
    print(f"generated from noise: {spot_error(generated).mean():.3f} from the nearest spot")
    print(f"for comparison, an empty picture: {unseen.square().mean().sqrt():.3f}")
