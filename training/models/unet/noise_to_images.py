"""Pipeline of diffusers that draws images from noise, for classes and for EDM's preconditioning.

This file is copied into the directory of a trained model and needs nothing but diffusers and torch:

    pipeline = DiffusionPipeline.from_pretrained(DIRECTORY, trust_remote_code=True)
    images = pipeline(batch_size=4, class_labels=[3, 3, 3, 3], guidance_scale=2.0).images
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor


class NoiseToImagesPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Pipeline of a UNet2DModel and a scheduler.

    Args:
        unet: network; if it knows classes, its last embedding means no class.
        scheduler: any scheduler of diffusers that fits the network's prediction.
    """

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        class_labels: list[int] | None = None,
        guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
        num_inference_steps: int = 50,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Draw images.

        Args:
            batch_size: number of images.
            class_labels: class of each image; None: no class.
            guidance_scale: classifier-free guidance (arXiv 2207.12598): 1 follows the class as learned.
            generator: source of the noise.
            num_inference_steps: steps of the scheduler.
            output_type: "pil", "np" (N, H, W, C in 0 … 1) or "pt" (N, C, H, W in 0 … 1).
        """
        shape, size = self.unet.config, self.unet.config.sample_size
        sides = (size, size) if isinstance(size, int) else tuple(size)
        device = self._execution_device
        image = randn_tensor((batch_size, shape.in_channels, *sides), generator=generator, device=device)
        self.scheduler.set_timesteps(num_inference_steps)
        sigmas = getattr(self.scheduler, "sigmas", None)
        if sigmas is not None:
            image = image * sigmas[0]
        labels = no_class = None
        if shape.num_class_embeds is not None:
            no_class = torch.full((batch_size,), shape.num_class_embeds - 1, device=device)
            labels = no_class if class_labels is None else torch.tensor(class_labels, device=device)
        for time in self.progress_bar(self.scheduler.timesteps):
            read = self.scheduler.scale_model_input(image, time)
            output = self.unet(read, time, labels).sample
            if guidance_scale != 1.0 and class_labels is not None:
                without = self.unet(read, time, no_class).sample
                output = without + guidance_scale * (output - without)
            image = self.scheduler.step(output, time, image).prev_sample
        image = (image / 2 + 0.5).clamp(0, 1)
        if output_type != "pt":
            image = image.cpu().permute(0, 2, 3, 1).numpy()
            if output_type == "pil":
                image = self.numpy_to_pil(image)
        return ImagePipelineOutput(images=image)
