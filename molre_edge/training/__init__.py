"""Makes checkpoints: MoLRE, LoRA or a frozen backbone, on one code; and evaluates them. Needs torch; imported late."""
