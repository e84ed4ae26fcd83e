"""What tests share: a room for each kind of thing that they need."""
