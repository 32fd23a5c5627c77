"""The pocket generator: a small Stable Diffusion, that is a UNet on the autoencoder's latents and a text encoder.

The text encoder starts from the one that has learned to read (see `text`); both are trained together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from transformers import CLIPTextModel

from ig_subnet.pocket.training import autoencoder, text
from ig_subnet.pocket.training.fitting import Plan, Run, fit, load_average
from ig_subnet.pocket.training.pictures import rendered
from ig_subnet.pocket.world import caption

STAGE = "generator"
PLAN = Plan(steps=52_800, batch=32, learning_rate=1e-3, average=0.998, decay_share=0.34, keep_every=1500)
QUICK = Plan(steps=12, batch=16, learning_rate=1.2e-3, average=0.9, keep_every=4)
POOL = 64_000
# Noise levels are drawn 1 / (1 - FOCUS) times as often in the middle, where shapes take form, and 1 / (1 + FOCUS) times
# at both ends, where the error is mostly chance.
FOCUS = 0.5
CAPTION_DROPPED = 0.1  # share of captions left out in training, for classifier-free guidance


def build() -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """An untrained UNet of 2.97 M and a text encoder of 0.7 M parameters."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text.WIDTH,
        attention_head_dim=4,  # the number of heads, for historical reasons
        norm_num_groups=16,
    )
    return unet, CLIPTextModel(text.text_config())


def scheduler() -> DDIMScheduler:
    """DDIM with zero terminal signal, so that the first step already decides the background from the caption alone."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,  # without effect when trailing; the pipeline warns of any other value
        clip_sample=False,
    )


def train(run: Run, plan: Plan) -> dict[str, Any]:
    """Trains both on cached latents of renderings of training scenes; returns the figures of `fit`."""
    torch.manual_seed(run.seed)
    unet, _ = build()
    text_encoder = text.load(run)
    if run.device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # the fused attention's backward in bfloat16 is slow on CPUs
    scenes, pixels = rendered(POOL if not run.quick else 300, "train", run.seed + 2)
    with torch.autocast(run.device.type, torch.bfloat16):
        latents = autoencoder.encode(autoencoder.load(run), pixels, run.device).float()
    words = text.build_tokenizer()
    tokens = text.tokenize(words, [caption(scene) for scene in scenes]).to(run.device)
    nothing = text.tokenize(words, [""]).to(run.device)
    noising = scheduler()
    noising.alphas_cumprod = noising.alphas_cumprod.to(run.device)

    def loss(random: torch.Generator) -> torch.Tensor:
        rows = torch.randint(len(latents), (plan.batch,), generator=random).to(run.device)
        clean = latents[rows]
        noise = torch.randn(clean.shape, generator=random).to(run.device)
        spread = (torch.arange(plan.batch) + torch.rand(plan.batch, generator=random)) / plan.batch
        spread = spread + FOCUS * (2 * torch.pi * spread).sin() / (2 * torch.pi)
        timesteps = (spread * noising.config.num_train_timesteps).long().to(run.device)
        dropped = (torch.rand(plan.batch, 1, generator=random) < CAPTION_DROPPED).to(run.device)
        with torch.autocast(run.device.type, torch.bfloat16):
            hidden = text_encoder(torch.where(dropped, nothing, tokens[rows])).last_hidden_state
            velocity = unet(noising.add_noise(clean, noise, timesteps), timesteps, hidden).sample
        return (velocity.float() - noising.get_velocity(clean, noise, timesteps)).square().mean()

    return fit(STAGE, run, plan, {"unet": unet, "text_encoder": text_encoder}, loss)


def load(run: Run) -> StableDiffusionPipeline:
    """The whole pipeline of the run's checkpoints, in float32."""
    unet, text_encoder = build()
    load_average(STAGE, run, {"unet": unet, "text_encoder": text_encoder})
    pipeline = StableDiffusionPipeline(
        vae=autoencoder.load(run),
        text_encoder=text_encoder,
        tokenizer=text.build_tokenizer(),
        unet=unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: StableDiffusionPipeline, captions: Sequence[str], steps: int, guidance: float, seed: int
) -> list[Image.Image]:
    """One picture of each caption; the n-th starts from the noise of `seed` + n."""
    pictures: list[Image.Image] = []
    for start in range(0, len(captions), 40):
        part = list(captions[start : start + 40])
        noise = [torch.Generator().manual_seed(seed + start + row) for row in range(len(part))]
        pictures += pipeline(part, num_inference_steps=steps, guidance_scale=guidance, generator=noise).images
    return pictures
