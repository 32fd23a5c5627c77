"""Miners that cheat, for scripts/attacks.py: one small class each, in one process or behind real axons.

answers     what an adversary is, and what the hotkeys of one owner share (`Lab`)
simple      noise, one image for every prompt, the prompt drawn as text, easy topics, slow, missing, malformed
copies      copies, near-duplicates, copies past the gate, replay, a middleman
experts     the validator's experts with gradients
ascent      gradient ascent on them, plain and through the validator's transforms
roster      who takes part, and what each should earn at most
in_process  a subnet of all of them in this process
processes   the same in real processes, of which `serve` is the adversaries' own
results     what each earned, as rows, a table and a plot
"""
