"""The made world: small synthetic images of drawn objects, with exact masks, from a seed."""
