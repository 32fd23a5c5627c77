"""What is left of an image when detail is taken away: enough to know it again, whatever was done to hide it.

A fingerprint is a thumbnail of brightness. Two measures follow from it, both of the lowest frequencies of its cosine
transform:

- the distance of perceptual hashes, in bits of 256: whose signs differ (after Zauner, Implementation and Benchmarking
  of Perceptual Image Hash Functions, 2010), the least over the eight ways of mirroring and turning one image. Encoding
  again, noise and blur change few of them; a crop of a few percent changes many.
- the likeness once one image is laid over the other, at most 1: of a grid of crops of either, the one that is most like
  the other image is brought nearest to it by inverse compositional alignment (Baker and Matthews, Lucas-Kanade 20 Years
  On, 2004). Crops, small turns and other margins change it little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64  # of a thumbnail, in pixels
FINGERPRINT_BYTES = SIDE * SIDE
HASH_SIDE = 16  # frequencies along either axis
HASH_BITS = HASH_SIDE * HASH_SIDE
LIKENESS_SIDE = 24  # frequencies along either axis

COARSE_SIDE = 8  # frequencies along either axis by which crops are found
# Cosine of these below which nothing is laid over, which takes ten times as long: 1 in 50 near-duplicates lies below, 9
# in 10 pairs of images of different prompts do.
COARSE_LIKENESS = 0.85
CROPS = (1.0, 0.95, 0.9, 0.85, 0.8)  # what is left of an axis
CROP_STEP = 0.05  # between the places of crops, in sides
BLURS = (SIDE / 20, SIDE / 64)  # of the passes of alignment, in pixels
ITERATIONS = 4  # of each pass
LARGEST_STEP = 0.1  # of an iteration, in halves of a side
LOWEST, HIGHEST = np.array([[[0.65, -0.2, -0.35], [-0.2, 0.65, -0.35]], [[1.08, 0.2, 0.35], [0.2, 1.08, 0.35]]])

Floats = NDArray[np.floating[Any]]  # float32 here
Bytes = NDArray[np.uint8]


def fingerprint(pixels: Bytes) -> bytes:
    """FINGERPRINT_BYTES bytes: the brightness of an RGB image, uint8 [height, width, 3], row by row."""
    return Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def plain_hashes(fingerprints: Bytes) -> Bytes:
    """[N, 32], 8 bits a byte: the hashes of fingerprints [N, FINGERPRINT_BYTES]."""
    return _packed(_hash_bits(_thumbnails(fingerprints)))


def oriented_hashes(fingerprint: Bytes) -> Bytes:
    """[8, 32]: the hashes of a fingerprint [FINGERPRINT_BYTES] as it is, and mirrored and turned in all other ways."""
    return _packed(_hash_bits(_oriented(_thumbnails(fingerprint[None])[0])))


def laid_over(fingerprint: Bytes, others: Bytes) -> Floats:
    """[N] in [-1, 1]: how like a fingerprint [FINGERPRINT_BYTES] is to each of others [N, FINGERPRINT_BYTES] once one
    is laid over a crop of the other, whichever is the crop of which; 0 where no crop is anything like it."""
    these, those = _thumbnails(np.broadcast_to(fingerprint, others.shape)), _thumbnails(others)
    return np.maximum(_likeness_to_crops(these, those), _likeness_to_crops(those, these))


def _thumbnails(fingerprints: Bytes) -> Floats:
    """[N, SIDE, SIDE]: brightness with a mean of 0 and a deviation of 1; all 0 for an image of one brightness."""
    levels = fingerprints.reshape(-1, SIDE, SIDE).astype(np.float32)
    levels -= levels.mean(axis=(1, 2), keepdims=True)
    levels /= np.maximum(levels.std(axis=(1, 2), keepdims=True), 1e-9)
    return levels


def _oriented(image: Floats) -> Floats:
    """[8, SIDE, SIDE]: an image [SIDE, SIDE] in all ways of mirroring and turning it."""
    ways = [way[::down, ::across] for way in (image, image.T) for down in (1, -1) for across in (1, -1)]
    return np.stack(ways)


def _hash_bits(images: Floats) -> NDArray[np.bool_]:
    """[N, 256]: which of the lowest frequencies of images [N, SIDE, SIDE] are positive; the mean is none of them."""
    found = FREQUENCIES @ images @ FREQUENCIES.T > 0
    found[:, 0, 0] = False
    return found.reshape(len(images), -1)


def _packed(bits: NDArray[np.bool_]) -> Bytes:
    return np.packbits(bits, axis=-1)


def _likeness_to_crops(whole: Floats, parts: Floats) -> Floats:
    """[N]: how like each of `parts` is to what it covers of its `whole`, both [N, SIDE, SIDE]."""
    oriented = np.stack([_oriented(part) for part in parts])
    maps, ways, coarse = _best_crops(whole, oriented)
    likeness = np.zeros(len(parts), np.float32)
    (near,) = np.nonzero(coarse >= COARSE_LIKENESS)
    if len(near):
        whole, parts, maps = whole[near], oriented[near, ways[near]], maps[near]
        for blur, inside in PASSES:
            maps = _aligned(blur @ whole @ blur.T, blur @ parts @ blur.T, inside, maps)
        likeness[near] = (_spectra(_warped(whole, maps)) * _spectra(parts)).sum(axis=1)
    return likeness


def _spectra(images: Floats) -> Floats:
    """[N, 575] of unit length: the roots of the lowest frequencies of images [N, SIDE, SIDE], with their signs.

    Roots, because frequencies as they are would be all about the few strongest, and their signs alone would count noise
    as much as what is shown.
    """
    found = LIKENESS_FREQUENCIES @ images @ LIKENESS_FREQUENCIES.T
    return _directions((np.sign(found) * np.sqrt(np.abs(found))).reshape(len(images), -1))


def _best_crops(whole: Floats, oriented: Floats) -> tuple[Floats, NDArray[np.intp], Floats]:
    """Which crop of each whole [N, SIDE, SIDE] is most like which orientation of its part [N, 8, SIDE, SIDE].

    As affine maps [N, 2, 3] from the part's coordinates to the whole's, numbers of orientations [N], and cosines [N].
    """
    number, axes = len(whole), len(AXES)
    rows = CROP_FREQUENCIES.reshape(axes * COARSE_SIDE, SIDE)
    found: Floats = (rows @ whole @ rows.T).reshape(number, axes, COARSE_SIDE, axes, COARSE_SIDE)
    crops = _directions(found.transpose(0, 1, 3, 2, 4).reshape(number, axes * axes, -1))
    coarse: Floats = FREQUENCIES[:COARSE_SIDE] @ oriented @ FREQUENCIES[:COARSE_SIDE].T
    likeness = crops @ _directions(coarse.reshape(number, 8, -1)).swapaxes(1, 2)
    likeness = likeness.reshape(number, -1)
    crop, way = np.unravel_index(likeness.argmax(axis=1), (axes * axes, 8))
    maps = np.zeros((number, 2, 3), np.float32)
    maps[:, 1, 1], maps[:, 1, 2] = AXES[crop // axes].T
    maps[:, 0, 0], maps[:, 0, 2] = AXES[crop % axes].T
    return maps, way, likeness.max(axis=1)


def _directions(vectors: Floats) -> Floats:
    """Vectors [..., D] without their first number, the mean, at unit length; all 0 where nothing else is in them."""
    rest = vectors[..., 1:]
    directions: Floats = rest / np.maximum(np.linalg.norm(rest, axis=-1, keepdims=True), 1e-9)
    return directions


def _aligned(whole: Floats, parts: Floats, inside: Floats, maps: Floats) -> Floats:
    """The maps [N, 2, 3], changed so that the parts lie better on their wholes, as far as they are `inside`."""
    down, across = np.gradient(parts, axis=(1, 2))
    slopes = (across * (SIDE / 2), down * (SIDE / 2))
    steepest = np.stack([(slope * inside).reshape(len(parts), -1) * axis for slope in slopes for axis in GRID], axis=1)
    hessians = steepest @ steepest.swapaxes(1, 2) + 1e-3 * SIDE * np.eye(6, dtype=np.float32)
    project = np.linalg.solve(hessians, steepest)
    for _ in range(ITERATIONS):
        errors = (_warped(whole, maps) - parts).reshape(len(parts), -1, 1)
        step = np.tile(np.eye(3, dtype=np.float32), (len(parts), 1, 1))
        step[:, :2] += (project @ errors).clip(-LARGEST_STEP, LARGEST_STEP).reshape(-1, 2, 3)
        maps = (maps @ np.linalg.inv(step)).clip(LOWEST, HIGHEST).astype(np.float32)
    return maps


def _warped(images: Floats, maps: Floats) -> Floats:
    """Images [N, SIDE, SIDE] read where the maps [N, 2, 3] say, between pixels in straight lines."""
    places = ((maps @ GRID + 1) * (SIDE / 2) - 0.5).clip(0, SIDE - 1.001)
    corners = places.astype(np.intp)
    (across, down), flat = np.moveaxis(places - corners, 1, 0), images.reshape(len(images), -1)
    first = corners[:, 1] * SIDE + corners[:, 0]

    def at(offset: int) -> Any:
        return np.take_along_axis(flat, first + offset, axis=1)

    above, below = (at(row) * (1 - across) + at(row + 1) * across for row in (0, SIDE))
    read: Floats = (above * (1 - down) + below * down).astype(np.float32)
    return read.reshape(images.shape)


def _frequencies(number: int, start: float = 0.0, share: float = 1.0) -> Floats:
    """[number, SIDE]: the lowest frequencies of the cosine transform of a part of an axis, stretched to all of it."""
    places = ((start + share * (np.arange(SIDE) + 0.5) / SIDE) * SIDE - 0.5).clip(0, SIDE - 1.001)
    pixel = places.astype(np.intp)
    stretch = np.zeros((SIDE, SIDE))
    stretch[np.arange(SIDE), pixel] = 1 - (places - pixel)
    stretch[np.arange(SIDE), pixel + 1] = places - pixel
    return (np.cos(np.pi / SIDE * np.outer(np.arange(number), np.arange(SIDE) + 0.5)) @ stretch).astype(np.float32)


def _blur(deviation: float) -> Floats:
    """[SIDE, SIDE]: Gaussian blur along an axis, `deviation` in pixels; what lies outside is as its nearest pixel."""
    places = np.arange(SIDE)
    reach = np.arange(-round(3 * deviation), round(3 * deviation) + 1)
    weights = np.exp(-0.5 * (reach / deviation) ** 2)
    matrix = np.zeros((SIDE, SIDE))
    for offset, weight in zip(reach, weights / weights.sum(), strict=True):
        np.add.at(matrix, (places, (places + offset).clip(0, SIDE - 1)), weight)
    return matrix.astype(np.float32)


def _inside(deviation: float) -> Floats:
    """[SIDE, SIDE]: 1, but 0 at the edges, where blur would have reached outside."""
    margin = round(2 * deviation)
    return np.pad(np.ones((SIDE - 2 * margin, SIDE - 2 * margin), np.float32), margin)


def _crop_axes() -> Sequence[tuple[float, float]]:
    """(share, start) of every crop of an axis."""
    return [
        (share, start) for share in CROPS for start in np.linspace(0, 1 - share, round((1 - share) / CROP_STEP) + 1)
    ]


FREQUENCIES = _frequencies(HASH_SIDE)
LIKENESS_FREQUENCIES = _frequencies(LIKENESS_SIDE)
CROP_FREQUENCIES = np.stack([_frequencies(COARSE_SIDE, start, share) for share, start in _crop_axes()])
AXES = np.array([(share, 2 * start + share - 1) for share, start in _crop_axes()], np.float32)  # scale and middle
PASSES = [(_blur(deviation), _inside(deviation)) for deviation in BLURS]
_CENTRES = (np.arange(SIDE) + 0.5) / (SIDE / 2) - 1  # of pixels, from -1 to 1
GRID = np.stack([*np.meshgrid(_CENTRES, _CENTRES), np.ones((SIDE, SIDE))]).reshape(3, -1).astype(np.float32)
