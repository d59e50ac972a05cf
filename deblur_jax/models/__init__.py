"""Networks: flax.linen modules, no losses."""
