"""What a rank runs in a test: in a module of its own, because a new process imports it by name."""

from symbiosis.models import ranks


def share_held(model, *, sharding: str) -> list[dict]:
    """The share of a model's weights that one rank holds, as a trainer's history."""
    whole = sum(p.numel() for p in model.parameters())
    ranks.wrap_ddp_or_fsdp(model, None, sharding)
    return [{"share": sum(p.to_local().numel() for p in model.parameters()) / whole}]
