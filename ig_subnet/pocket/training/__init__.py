"""How the pocket models are trained; run through scripts/train_pocket.py. It needs torch."""
