"""A study's images as a dataset on a hub."""

from __future__ import annotations

from ig_subnet.studies.errors import SourceError, StudyError
from ig_subnet.studies.folder import StudyFolder


def push_images(folder: StudyFolder, name: str, *, public: bool) -> str:
    """Uploads all images with their metadata as a dataset, and returns where it is. Raises `StudyError`."""
    import datasets

    if not folder.metadata.is_file():
        raise SourceError(f"there are no images in {folder.path} yet: run --stage images first")
    try:
        images = datasets.load_dataset("imagefolder", data_dir=str(folder.images), split="train")
        return str(images.push_to_hub(name, private=not public).repo_url)
    except Exception as error:  # datasets lets through whatever hub, network and file systems raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StudyError(
            f"the images cannot be pushed to {name}: {reason}; check its name, your login, the network, HF_HUB_OFFLINE"
        ) from error
