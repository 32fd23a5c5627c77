"""A few prompts of different subjects."""

from __future__ import annotations

PROMPTS = (
    "a photograph of a cat sleeping on a sofa",
    "a kitten playing with a ball of wool",
    "a mountain lake at sunrise, mist over the water",
    "a snowy mountain range under a blue sky",
    "a portrait of an old sailor, oil painting",
    "a bowl of ramen with an egg, food photography",
    "a portrait of a young queen, renaissance style",
    "a steam locomotive crossing a bridge",
)
