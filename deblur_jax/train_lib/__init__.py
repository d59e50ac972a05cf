"""The compiled train step and what it needs; knows a Family only."""
