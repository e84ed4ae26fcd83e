"""A made world: seeded small pictures of drawn things, with exact masks of what is on them."""
