"""Miners that cheat, for scripts/attacks.py: one small class each, in one process or behind real axons.

answers     what an adversary is, and what the hotkeys of one owner share (`Lab`)
simple      noise, one image for every prompt, the prompt drawn as text, easy topics, slow, missing, malformed
copies      copies, near-duplicates, replay, a middleman
ascent      gradient ascent on the experts' public weights (`experts`)
roster      who takes part, and what each should earn at most
"""
